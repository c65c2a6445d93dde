"""What a graph returns and overwrites, so that no two of them share memory by accident.

In the IR a copy is the value itself. Where torch promises memory of its own (an output that was a
copy of an input, two outputs that were copies of each other, the old value of what is about to be
overwritten), a `tensor.copy` is put in.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import Tensor
from torch.fx import Node

from effcomp.capture.builder import Builder
from effcomp.capture.origin import source_line
from effcomp.errors import CaptureError
from effcomp.ir import SPECS, Dim, Graph, Op, Trait, Value
from effcomp.ir.dims import contiguous_strides


@dataclass(frozen=True, slots=True)
class Write:
    """An input that is overwritten when everything has been computed."""

    target: Value
    source: Value
    loc: str


@dataclass(slots=True)
class Results:
    """The outputs of a graph, gathered one by one."""

    builder: Builder
    writes: Sequence[Write]
    params: Sequence[Value]
    outputs: list[Value] = field(default_factory=list[Value])
    strides: list[tuple[Dim, ...] | None] = field(default_factory=list[tuple[Dim, ...] | None])
    owners: dict[Value, Node] = field(default_factory=dict[Value, Node])
    producers: dict[Value, Op] = field(default_factory=dict[Value, Op])

    def add(self, node: Any, found: Any) -> None:
        """Append an output: the traced node (or constant), and what it became."""
        if isinstance(found, Value):
            assert isinstance(node, Node), "only nodes become values"
            self._add_tensor(node, found)
            return
        if isinstance(found, float) or not isinstance(found, (int, sympy.Expr)):
            raise CaptureError(f"returns {found!r}: neither a tensor nor a size")
        self.outputs.append(self.builder.emit_all("tensor.size", value=found)[0])
        self.strides.append(None)

    def _add_tensor(self, node: Node, value: Value) -> None:
        traced = node.meta["val"]
        assert isinstance(traced, Tensor), "the output has been traced"
        if traced.device.type != self.builder.device.type:
            raise CaptureError(f"returns a tensor on {traced.device}")
        self.builder.loc = self.builder.scope = ""
        root, owner = self._memory_of(value), _owner(node)
        claimed = self.owners.setdefault(root, owner)
        fresh_from_input = root in self.params and owner.op != "placeholder"
        if fresh_from_input or claimed is not owner:
            value = self._copy(value, node)
        self.outputs.append(value)
        strides = self.builder.sizes.shape(traced.stride())
        trivial = len(strides) < 2 and strides == contiguous_strides(value.shape)
        self.strides.append(None if trivial else strides)

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


def _owner(node: Node) -> Node:
    """The node whose memory a traced output is: views look at their first argument's."""
    while _is_view(node):
        assert isinstance(node.args[0], Node), "a view looks at a tensor"
        node = node.args[0]
    return node


def _is_view(node: Node) -> bool:
    target = node.target
    if target is operator.getitem and isinstance(node.args[0], Node):
        return _is_view(node.args[0])
    if not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    return bool(returns) and returns[0].alias_info is not None
