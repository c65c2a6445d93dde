"""The IR's three nouns: Value, Op, Graph. All are immutable."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import sympy

from effcomp.ir.dims import Dim
from effcomp.ir.types import TensorType, Type


@dataclass(frozen=True, slots=True)
class Ref:
    """Inside an attribute: the operand at `index` (how `aten.call` keeps its argument list)."""

    index: int


@dataclass(frozen=True, slots=True)
class Tag:
    """Inside an attribute: a torch constant, such as Tag("dtype", "f32")."""

    kind: str
    value: str


Attr = bool | int | float | complex | str | None | sympy.Expr | Ref | Tag | tuple["Attr", ...]
NO_ATTRS: Mapping[str, Attr] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One SSA value. Two values are equal only if they are the same object.

    `strides` (in elements) is set where torch's semantics or plan-layout fix a layout; None means
    row-major. `weight` marks a parameter that stays the same from call to call.
    """

    type: Type
    hint: str = ""
    strides: tuple[Dim, ...] | None = None
    weight: bool = False

    @property
    def tensor(self) -> TensorType:
        """The type of a value that must be a tensor."""
        assert isinstance(self.type, TensorType), f"%{self.hint} is a {self.type}, not a tensor"
        return self.type

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation: operands are data, attributes are compile-time facts.

    `loc` is the model source line; `scope` the module path, such as `blocks.0.norm1`.
    """

    name: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attrs: Mapping[str, Attr] = field(default_factory=lambda: NO_ATTRS)
    body: "Graph | None" = None
    loc: str = ""
    scope: str = ""

    @property
    def result(self) -> Value:
        """The only result."""
        assert len(self.results) == 1, f"{self.name} has {len(self.results)} results"
        return self.results[0]


@dataclass(frozen=True, slots=True)
class Edit:
    """What stands in for one op: new ops, and the values its results become."""

    ops: tuple[Op, ...]
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A straight-line program: params in, ops in order, outputs out.

    `output_strides[i]`, where not None, is the layout that the caller must get output i in.
    """

    name: str
    params: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    output_strides: tuple[tuple[Dim, ...] | None, ...] = ()

    def layout_of_output(self, index: int) -> tuple[Dim, ...] | None:
        return self.output_strides[index] if self.output_strides else None

    def producers(self) -> dict[Value, Op]:
        return {r: op for op in self.ops for r in op.results}

    def users(self) -> dict[Value, list[Op]]:
        """Ops that read each value, in order, once per use; outputs are not ops."""
        users: dict[Value, list[Op]] = {}
        for op in self.ops:
            for v in op.operands:
                users.setdefault(v, []).append(op)
        return users

    def use_counts(self) -> dict[Value, int]:
        counts: dict[Value, int] = {}
        for used in (*(v for op in self.ops for v in op.operands), *self.outputs):
            counts[used] = counts.get(used, 0) + 1
        return counts

    def walk(self) -> Iterator[Op]:
        """Every op, those of nested bodies included, outer before inner."""
        for op in self.ops:
            yield op
            if op.body is not None:
                yield from op.body.walk()

    def splice(self, edits: Mapping[Op, Edit]) -> "Graph":
        """Return a copy with each edited op replaced, in one linear sweep.

        An edit's ops stand where the edited op stood, so they may only read values defined above.
        """
        if not edits:
            return self
        new: dict[Value, Value] = {}
        ops: list[Op] = []

        def resolve(values: tuple[Value, ...]) -> tuple[Value, ...]:
            return tuple(new.get(v, v) for v in values) if new else values

        for op in self.ops:
            edit = edits.get(op)
            for kept in (op,) if edit is None else edit.ops:
                operands = resolve(kept.operands)
                same = all(a is b for a, b in zip(operands, kept.operands, strict=True))
                ops.append(kept if same else replace(kept, operands=operands))
            if edit is not None:
                new.update(zip(op.results, resolve(edit.values), strict=True))
        return replace(self, ops=tuple(ops), outputs=resolve(self.outputs))

    def without_dead_ops(self, is_pure: Callable[[Op], bool]) -> "Graph":
        live = set(self.outputs)
        kept: list[Op] = []
        for op in reversed(self.ops):
            if not is_pure(op) or any(r in live for r in op.results):
                live.update(op.operands)
                kept.append(op)
        if len(kept) == len(self.ops):
            return self
        return replace(self, ops=tuple(reversed(kept)))
