"""What a graph returns and overwrites: what shares memory in torch does, and nothing by accident.

In the IR a copy is the value itself. Where torch promises memory of its own (an output that was a
copy of an input, two outputs that were copies of each other, the old value of what is about to be
overwritten), a `tensor.copy` is put in.

In the IR a view is a value of its own. Where torch promises one memory (views of one intermediate,
views of an input), the intermediate becomes the output, and what is returned are views of it, or of
the input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
from torch import Tensor
from torch.fx import Node

from effcomp.capture.builder import Builder
from effcomp.capture.origin import source_line
from effcomp.capture.sharing import owner_of, seen_in, shared_roots
from effcomp.errors import CaptureError
from effcomp.ir import SPECS, Dim, Graph, Op, Result, ResultView, Trait, Value


@dataclass(frozen=True, slots=True)
class Write:
    """An input that is overwritten when everything has been computed."""

    target: Value
    source: Value
    loc: str


@dataclass(slots=True)
class Results:
    """The outputs of a graph, and what is returned of them.

    `env` is what the traced nodes became; `sharing` is whether results share memory as in torch.
    Otherwise views of inputs may, and nothing else does.
    """

    builder: Builder
    env: Mapping[Node, Any]
    writes: Sequence[Write]
    params: Sequence[Value]
    sharing: bool
    outputs: list[Value] = field(default_factory=list[Value])
    strides: list[tuple[Dim, ...] | None] = field(default_factory=list[tuple[Dim, ...] | None])
    returned: list[Result] = field(default_factory=list[Result])
    positions: dict[Node, int] = field(default_factory=dict[Node, int])  # of what is shared
    owners: dict[Value, Node] = field(default_factory=dict[Value, Node])
    producers: dict[Value, Op] = field(default_factory=dict[Value, Op])

    def add(self, returned: Sequence[Any], aliases: Mapping[int, Node]) -> None:
        """Append what the traced graph returns: nodes, constants and None.

        `aliases` are the results, by position, that are views of an input as it is at the end.
        """
        roots = shared_roots(returned, aliases, self.builder.sizes) if self.sharing else {}
        for position, node in enumerate(returned):
            root = roots.get(position)
            if node is None:
                self.returned.append(None)
            elif root is None or not self._may_be_shown(root, is_alias=position in aliases):
                self.returned.append(self._add(node))
            else:
                self.returned.append(self._shown(root, node))

    def _may_be_shown(self, root: Node, *, is_alias: bool) -> bool:
        """Not so the old value of an input that is overwritten."""
        value = self.env.get(root)
        old = root.op == "placeholder" and any(w.target is value for w in self.writes)
        return isinstance(value, Value) and (is_alias or not old)

    def _shown(self, root: Node, node: Node) -> Result:
        """A result that looks at the memory of `root`, an input or an output added here."""
        is_param = root.op == "placeholder"
        if not is_param and root not in self.positions:
            self.positions[root] = self._add(root, shared=True)
        if node is root:
            return self._add(node) if is_param else self.positions[root]
        self._check_device(node)
        seen = seen_in(node, self.builder.sizes)
        if is_param:
            return ResultView("param", self.params.index(self.env[root]), *seen)
        return ResultView("output", self.positions[root], *seen)

    def _add(self, node: Any, *, shared: bool = False) -> int:
        """Append an output, and return its position."""
        found = self.env[node] if isinstance(node, Node) else node
        if isinstance(found, Value):
            assert isinstance(node, Node), "only nodes become values"
            self._add_tensor(node, found, shared)
            return len(self.outputs) - 1
        if isinstance(found, float) or not isinstance(found, (int, sympy.Expr)):
            raise CaptureError(f"returns {found!r}: neither a tensor nor a size")
        self.outputs.append(self.builder.emit_all("tensor.size", value=found)[0])
        self.strides.append(None)
        return len(self.outputs) - 1

    def _add_tensor(self, node: Node, value: Value, shared: bool) -> None:
        traced = self._check_device(node)
        self.builder.loc = self.builder.scope = ""
        root, owner = self._memory_of(value), owner_of(node)
        claimed = self.owners.setdefault(root, owner)
        # Of constants the caller gets a copy anyway; of one that others look at it is made here.
        given = root in self.params or (shared and root not in self.producers)
        if (given and owner.op != "placeholder") or claimed is not owner:
            value = self._copy(value, node)
        self.outputs.append(value)
        strides = self.builder.sizes.shape(traced.stride())
        self.strides.append(strides or None)

    def _check_device(self, node: Node) -> Tensor:
        traced = node.meta["val"]
        assert isinstance(traced, Tensor), "the output has been traced"
        if traced.device.type != self.builder.device.type:
            raise CaptureError(f"returns a tensor on {traced.device}")
        return traced

    def _copy(self, value: Value, node: Node) -> Value:
        self.builder.hint, self.builder.loc = value.hint, source_line(node)
        return self.builder.emit("tensor.copy", value)

    def _memory_of(self, value: Value) -> Value:
        """The value whose memory a chain of views looks at."""
        if not self.producers:
            self.producers = {r: op for op in self.builder.ops for r in op.results}
        while (op := self.producers.get(value)) and Trait.VIEW in SPECS[op.name].traits:
            value = op.operands[0]
        return value

    def graph(self, params: tuple[Value, ...]) -> Graph:
        """Close the graph: copies first, then writes."""
        targets = {w.target for w in self.writes}
        sources: list[Value] = []
        for write in self.writes:
            root = self._memory_of(write.source)
            stale = root in targets and write.source is not write.target
            sources.append(self._saved(write) if stale else write.source)
        self.builder.hint = self.builder.scope = ""
        for write, source in zip(self.writes, sources, strict=True):
            if source is not write.target:
                self.builder.loc = write.loc
                self.builder.emit_all("state.write", write.target, source)
        strides = tuple(self.strides) if any(s is not None for s in self.strides) else ()
        return Graph("graph", params, tuple(self.builder.ops), tuple(self.outputs), strides)

    def _saved(self, write: Write) -> Value:
        self.builder.hint, self.builder.loc = write.source.hint, write.loc
        return self.builder.emit("tensor.copy", write.source)
