"""Row statistics: what reductions, softmax and norms need of a row, and what they make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy

from effcomp.codegen.tile.build import Builder, Guards, Uncovered
from effcomp.codegen.tile.evaluate import Evaluator, computed_as
from effcomp.codegen.tile.group import Group
from effcomp.codegen.tile.index import (
    FAR,
    ZERO,
    Index,
    expr,
    flatten,
    memory_order,
    reshape_index,
    unflatten,
)
from effcomp.codegen.tile.ir import Axis, Bound, Constant, Load, Operand
from effcomp.ir import Dim, Op, Trait, Value, attr, spec_of
from effcomp.ir.dims import FloorDiv, Mod, product, same, same_shape
from effcomp.ir.ops.infer import axes, axis
from effcomp.ir.types import FLOATS

ROW = sympy.Symbol("row", integer=True, nonnegative=True)
COL = sympy.Symbol("col", integer=True, nonnegative=True)
OUTER = sympy.Symbol("outer", integer=True, nonnegative=True)

# Statistics of an op in the order they are taken; each needs those before it.
PARTS: Mapping[str, tuple[str, ...]] = {
    "tensor.sum": ("sum",), "tensor.mean": ("mean",), "tensor.prod": ("prod",),
    "tensor.amax": ("amax",), "tensor.amin": ("amin",), "tensor.any": ("any",),
    "tensor.all": ("all",), "tensor.argmax": ("amax", "at"), "tensor.argmin": ("amin", "at"),
    "nn.softmax": ("peak", "total"), "nn.log_softmax": ("peak", "total"),
    "nn.layer_norm": ("mean", "rstd"), "nn.rms_norm": ("rstd",),
}  # fmt: skip
_ON_BOOL: Mapping[str, str] = {"sum": "any", "amax": "any", "prod": "all", "amin": "all"}
_LIMITS: Mapping[str, tuple[int, int]] = {
    "i64": (-(2**63), 2**63 - 1), "i32": (-(2**31), 2**31 - 1), "i16": (-(2**15), 2**15 - 1),
    "i8": (-128, 127), "u8": (0, 255),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowSpace:
    """A full shape and the dims that reductions reduce: rows times columns.

    Rows and columns are counted in `order`, the dims as they lie in memory; `row` says which row
    a program's axes are at.
    """

    shape: tuple[Dim, ...]
    reduced: tuple[int, ...]
    order: tuple[int, ...]
    row: Any = ROW

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(d for d in self.order if d not in self.reduced)

    @property
    def inner(self) -> int:
        """The dim whose neighbours touch."""
        return next((d for d in reversed(self.order) if self.shape[d] != 1), 0)

    @property
    def rows(self) -> Dim:
        return product(self.shape[d] for d in self.kept)

    @property
    def columns(self) -> Dim:
        return product(self.shape[d] for d in self.reduced)

    def split(self) -> "RowSpace":
        """The same rows on two axes: ROW along the inner dim, OUTER along all others."""
        return replace(self, row=OUTER * self.shape[self.kept[-1]] + ROW)

    @property
    def index(self) -> Index:
        """The element of the full shape at (row, COL)."""
        found: list[Any] = [expr(0)] * len(self.shape)
        columns = tuple(d for d in self.order if d in self.reduced)
        for dims, position in ((self.kept, self.row), (columns, COL)):
            sizes = [self.shape[d] for d in dims]
            for d, i in zip(dims, unflatten(position, sizes), strict=True):
                found[d] = i
        return tuple(found)

    def kept_of(self, index: Index) -> Index:
        """The kept dims' part, in memory order, of an index with or without the reduced dims."""
        if len(index) == len(self.shape):
            return tuple(index[d] for d in self.kept)
        return tuple(index[i] for i in _ranks(self.kept))

    def row_of(self, kept_index: Index) -> Any:
        """The row that an index of the kept dims, in memory order, lies in."""
        return flatten(kept_index, [self.shape[d] for d in self.kept])

    def output_index(self, value: Value) -> Index:
        """The element of an output that (row, COL), or the row alone, stands for."""
        if same_shape(value.shape, self.shape):
            return self.index
        if same(value.tensor.numel, self.rows):
            kept = sorted(self.kept)
            at = tuple(self.index[d] for d in kept)
            return reshape_index(at, [self.shape[d] for d in kept], value.shape)
        if same(value.tensor.numel, product(self.shape)):
            return reshape_index(self.index, self.shape, value.shape)
        raise Uncovered(f"an output {value.type} is neither rows nor elements of {self.shape}")


def _ranks(dims: Sequence[int]) -> tuple[int, ...]:
    """Where each of the dims stands among them."""
    places = sorted(dims)
    return tuple(places.index(d) for d in dims)


def row_space(group: Group) -> RowSpace:
    """The shape and dims that every reduction of the body shares, in the order of memory."""
    reductions = [op for op in group.body.ops if Trait.REDUCTION in spec_of(op).traits]
    if not reductions:
        raise Uncovered("a row-wise group reduces nothing")
    first, *others = map(_reduced_space, reductions)
    for other in others:
        if not same_shape(other.shape, first.shape) or other.reduced != first.reduced:
            raise Uncovered("reductions of one group run over different rows")
    return replace(first, order=_read_order(group, reductions[0].operands[0]))


def _read_order(group: Group, value: Value) -> tuple[int, ...]:
    """The dims of a value in the order in which its largest operand is read."""
    shape = value.shape
    probe = tuple(
        expr(0) if size == 1 else sympy.Symbol(f"i{d}", integer=True, nonnegative=True)
        for d, size in enumerate(shape)
    )
    axes = [Axis(p, size, 2) for p, size in zip(probe, shape, strict=True) if size != 1]
    builder = Builder(axes, wide=group.wide)
    Evaluator(group.body, builder, group.memory).at(value, probe)
    offsets = [s.offset for s in builder.body if isinstance(s, Load)]
    # A looked-up position varies along the dims of what it was looked up in.
    found = max(offsets, key=lambda o: len(builder.axes_of(o)), default=ZERO)
    if found.has(FloorDiv, Mod):
        return tuple(range(len(shape)))  # steps along a dim vary
    return memory_order([found.coeff(p) if p.is_Symbol else 0 for p in probe])


def _reduced_space(op: Op) -> RowSpace:
    shape = op.operands[0].shape
    order = tuple(range(len(shape)))
    if op.name not in PARTS:
        raise Uncovered(f"{op.name} is no statistic of a row")
    if op.name in ("nn.layer_norm", "nn.rms_norm"):
        return RowSpace(shape, tuple(order[len(shape) - attr(op, "dims") :]), order)
    if "dims" in spec_of(op).defaults:
        found = axes(attr(op, "dims"), len(shape))
        if not found:
            raise Uncovered(f"{op.name} over no dims")
        return RowSpace(shape, found, order)
    return RowSpace(shape, (axis(attr(op, "dim"), len(shape)),), order)


def neutral(kind: str, dtype: str) -> Constant:
    """What leaves a statistic unchanged."""
    if kind in ("any", "all"):
        return Constant(kind == "all", "bool")
    if kind in ("sum", "prod"):
        value = 0 if kind == "sum" else 1
        return Constant(float(value) if dtype in FLOATS else value, dtype)
    low, high = (-float("inf"), float("inf")) if dtype in FLOATS else _LIMITS[dtype]
    return Constant(high if kind == "amin" else low, dtype)


class Statistics:
    """The statistics of one row block, and the values that reductions make of them."""

    def __init__(self, group: Group, space: RowSpace, builder: Builder) -> None:
        self.space = space
        self.builder = builder
        self.evaluator = Evaluator(group.body, builder, group.memory, self.value)
        self.known: dict[tuple[Op, str], Operand] = {}

    # What the evaluator asks for.

    def value(self, op: Op, index: Index, guards: Guards) -> Operand:
        """A reduction's value at an index of its result: a statistic, or a finished element."""
        self._require_own_row(op, index)
        if not op.name.startswith("nn."):
            return self._cast_result(op, self.known_part(op, PARTS[op.name][-1]))
        dtype = computed_as(op.result.dtype)
        x = self.evaluator.cast(self.evaluator.at(op.operands[0], index, guards), dtype)
        match op.name:
            case "nn.softmax":
                shifted = self._compute("tensor.sub", x, self.known_part(op, "peak"))
                raised = self._compute("tensor.exp", shifted)
                return self._compute("tensor.div", raised, self.known_part(op, "total"))
            case "nn.log_softmax":
                shifted = self._compute("tensor.sub", x, self.known_part(op, "peak"))
                log = self._compute("tensor.log", self.known_part(op, "total"))
                return self._compute("tensor.sub", shifted, log)
            case "nn.layer_norm":
                x = self._compute("tensor.sub", x, self.known_part(op, "mean"))
                return self._scaled(op, x, index, guards)
            case _:
                return self._scaled(op, x, index, guards)

    def _scaled(self, op: Op, x: Operand, index: Index, guards: Guards) -> Operand:
        """The centred element times 1 / deviation, then the affine."""
        x = self._compute("tensor.mul", x, self.known_part(op, "rstd"))
        tail = index[len(index) - attr(op, "dims") :]
        for affine, combine in zip(op.operands[1:], ("tensor.mul", "tensor.add"), strict=False):
            x = self._compute(combine, x, self.evaluator.at(affine, tail, guards))
        return x

    def _require_own_row(self, op: Op, index: Index) -> None:
        row = self.space.row_of(self.space.kept_of(index))
        if self.builder.simplify(row) != self.builder.simplify(self.space.row):
            raise Uncovered(f"{op.name} is read in another row than the one at hand")

    def known_part(self, op: Op, part: str) -> Operand:
        """A statistic; one not taken yet is taken from the whole row."""
        if (found := self.known.get((op, part))) is None:
            kind = self.kind_of(op, part)
            found = self.reduced(kind, self.part_operand(op, part, self.row_element(op)))
            found = self.known[op, part] = self.finished(op, part, found)
        return found

    # The pieces of a statistic: element, combination, finish.

    def row_element(self, op: Op) -> Operand:
        """The reduced operand at (row, COL)."""
        return self.evaluator.at(op.operands[0], self.space.index)

    def kind_of(self, op: Op, part: str) -> str:
        if part == "at":
            return "amin"
        if part in ("mean", "rstd", "total"):
            return "sum"
        return _ON_BOOL.get(part, part) if op.operands[0].dtype == "bool" else part

    def part_operand(self, op: Op, part: str, x: Operand) -> Operand:
        """What the statistic combines, made of the reduced operand's element."""
        if op.name in ("nn.softmax", "nn.log_softmax"):
            x = self.evaluator.cast(x, computed_as(op.result.dtype))
        match part:
            case "any" | "all":
                return self.evaluator.cast(x, "bool")
            case "at":
                return self._candidate(op, x)
            case "total":
                shifted = self._compute("tensor.sub", x, self.known_part(op, "peak"))
                return self._compute("tensor.exp", shifted)
            case "rstd":
                if op.name == "nn.layer_norm":
                    x = self._compute("tensor.sub", x, self.known_part(op, "mean"))
                return self._compute("tensor.mul", x, x)
            case _:
                return x

    def _candidate(self, op: Op, x: Operand) -> Operand:
        """The column where x is the extreme or NaN, else one beyond all columns."""
        extreme = self.known_part(op, PARTS[op.name][0])
        hit = self.builder.compute("tensor.eq", "bool", (x, extreme))
        if x.dtype in FLOATS:
            nan = self.builder.compute("tensor.isnan", "bool", (x,))
            hit = self.builder.compute("tensor.logical_or", "bool", (hit, nan))
        column = self.builder.position(COL)
        return self.builder.compute("tensor.where", "i64", (hit, column, Constant(FAR, "i64")))

    def reduced(self, kind: str, x: Operand) -> Operand:
        """The row's combination of x, lanes past the end left out."""
        return self.combined(kind, self.masked(kind, x))

    def combined(self, kind: str, lanes: Operand) -> Operand:
        """The lanes of a block's columns as one."""
        if not self._spans_columns:
            return lanes
        assert not isinstance(lanes, Constant), "a masked value spans the columns"
        return self.builder.reduce(kind, lanes, COL.name)

    @property
    def _spans_columns(self) -> bool:
        """Whether a block has several columns."""
        return next(a for a in self.builder.axes if a.symbol == COL).is_vector

    def masked(self, kind: str, x: Operand) -> Operand:
        """x where its lane is a column, else what leaves the statistic unchanged."""
        if not self._spans_columns:
            return x  # a loop ends with the last one
        spans = not isinstance(x, Constant) and COL.name in x.axes
        if spans and not self.builder.edges((COL.name,)):
            return x
        inside = self.builder.inside((Bound(COL, False, self.space.columns),))
        return self._compute("tensor.where", inside, x, neutral(kind, x.dtype), dtype=x.dtype)

    def finished(self, op: Op, part: str, combined: Operand) -> Operand:
        """The statistic made of the row's combination."""
        if part not in ("mean", "rstd"):
            return combined
        count = self.space.columns
        dtype = combined.dtype
        if isinstance(count, int):
            size: Operand = Constant(float(count), dtype)
        else:
            size = self.evaluator.cast(self.builder.position(count), dtype)
        mean = self._compute("tensor.div", combined, size)
        if part == "mean":
            return mean
        shifted = self._compute("tensor.add", mean, Constant(float(attr(op, "eps")), dtype))
        return self._compute("tensor.rsqrt", shifted)

    def _cast_result(self, op: Op, value: Operand) -> Operand:
        return self.evaluator.cast(value, computed_as(op.result.dtype))

    def _compute(self, name: str, *operands: Operand, dtype: str = "") -> Operand:
        return self.builder.compute(name, dtype or operands[0].dtype, operands)
