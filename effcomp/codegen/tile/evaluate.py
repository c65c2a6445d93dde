"""Evaluate a group's values at positions: loads with index maps, masks and arithmetic result.

`at(v, I)` is the element of v at index tuple I. Views rewrite I, joins select by position, lookups
load their index first; what was evaluated at the same place before is not evaluated again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from effcomp.codegen.tile.build import Builder, Guards, Uncovered
from effcomp.codegen.tile.index import (
    ZERO,
    Index,
    broadcast_index,
    expr,
    offset_of,
    replaced,
    viewed_at,
)
from effcomp.codegen.tile.ir import Bound, Constant, Operand, Pointer, TileValue
from effcomp.codegen.tile.pairs import joined_pair
from effcomp.ir import Dim, Graph, Op, Trait, Value, attr, spec_of
from effcomp.ir.dims import contiguous_strides
from effcomp.ir.ops.infer import axis
from effcomp.ir.types import FLOATS, INTEGERS

COMPUTED_AS: Mapping[str, str] = {
    "f64": "f64", "f32": "f32", "bf16": "f32", "f16": "f32", "i64": "i64", "i32": "i32",
    "i16": "i16", "i8": "i8", "u8": "u8", "bool": "bool",
}  # fmt: skip


def computed_as(dtype: str) -> str:
    """The dtype that arithmetic on `dtype` runs in."""
    if (found := COMPUTED_AS.get(dtype)) is None:
        raise Uncovered(f"{dtype} has no arithmetic in a generated kernel")
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a param lies: its pointer and its strides in elements."""

    pointer: Pointer
    strides: tuple[Dim, ...]


class Evaluator:
    """One evaluation of a group's body into a builder.

    `known` holds values that are not computed here (a product's block) by value; `reduce` gives a
    reduction's value at an index, where the group may reduce.
    """

    def __init__(
        self,
        body: Graph,
        builder: Builder,
        memory: Mapping[Value, Memory],
        reduce: Callable[[Op, Index, Guards], Operand] | None = None,
        known: Mapping[Value, Callable[[Index], Operand]] | None = None,
    ) -> None:
        self.builder = builder
        self.memory = memory
        self.reduce = reduce
        self.known = known or {}
        self.producers = body.producers()
        self.seen: dict[tuple[Value, Index, Guards], Operand] = {}

    def at(self, value: Value, index: Index, guards: Guards = ()) -> Operand:
        """The value's element at `index`; anything where a guard fails."""
        index = tuple(map(self.builder.simplify, index))
        key = (value, index, guards)
        if (found := self.seen.get(key)) is None:
            found = self.seen[key] = self._evaluate(value, index, guards)
        return found

    def maker(self, value: Value) -> Op | None:
        """The op of the body that makes a value; None where the value is known without it."""
        return None if value in self.known else self.producers.get(value)

    def forget_loop(self) -> None:
        """Drop what was computed inside the loop that ends."""
        kept = self.seen.items()
        self.seen = {k: v for k, v in kept if not self.builder.is_looped(v)}

    def _evaluate(self, value: Value, index: Index, guards: Guards) -> Operand:
        if (known := self.known.get(value)) is not None:
            return known(index)
        op = self.producers.get(value)
        if op is None:
            return self._load(value, index, guards)
        if (viewed := viewed_at(op, index)) is not None:
            return self.at(op.operands[0], viewed, guards)
        if (rule := _RULES.get(op.name)) is not None:
            return rule(self, op, index, guards)
        traits = spec_of(op).traits
        if Trait.REDUCTION in traits and self.reduce is not None:
            return self.reduce(op, index, guards)
        if Trait.ELEMENTWISE in traits:
            return self._elementwise(op, index, guards)
        raise Uncovered(f"{op.name} has no element-by-element form")

    def _load(self, value: Value, index: Index, guards: Guards) -> Operand:
        place = self.memory[value]
        offset = self.builder.simplify(offset_of(index, place.strides))
        return self.builder.load(place.pointer, computed_as(value.dtype), offset, guards)

    def _elementwise(self, op: Op, index: Index, guards: Guards) -> Operand:
        operands = [self.at(v, broadcast_index(index, v.shape), guards) for v in op.operands]
        return self.apply(op, operands)

    def apply(self, op: Op, operands: Sequence[Operand]) -> Operand:
        """An elementwise op on elements that are there already."""
        if op.name == "tensor.convert":
            return _converted_element(self, op, operands[0])
        attrs = tuple(
            (name, attr(op, name))
            for name in spec_of(op).defaults
            if name not in ("value", "dtype")
        )
        return self.builder.compute(op.name, computed_as(op.result.dtype), operands, attrs)

    def cast(self, value: Operand, dtype: str) -> Operand:
        """The value in another arithmetic dtype."""
        if value.dtype == dtype:
            return value
        if isinstance(value, Constant):
            return Constant(_converted(value.value, dtype), dtype)
        return self.builder.compute("cast", dtype, (value,))

    # Positions given by tensors.

    def position_of(
        self, value: Value, index: Index, guards: Guards, size: Dim, wraps: bool
    ) -> Any:
        """An element of an integer tensor as a position in [0, size).

        Counted from the end where negative, if it `wraps`.
        """
        found = self._affine(value, index)
        if found is not None and self.builder.is_within(found, size):
            return found
        element = self.at(value, index, guards)
        if isinstance(element, Constant):
            number = int(element.value)
            return expr(number + size if number < 0 else number)
        if wraps:
            length = self.cast(self.builder.position(size), element.dtype)
            negative = self.builder.compute(
                "tensor.lt", "bool", (element, Constant(0, element.dtype))
            )
            moved = self.builder.compute("tensor.add", element.dtype, (element, length))
            element = self.builder.compute(
                "tensor.where", element.dtype, (negative, moved, element)
            )
        element = self.cast(element, "i64" if self.builder.wide else "i32")
        assert isinstance(element, TileValue), "a loaded index is no constant"
        return self.builder.symbol_for(element, size)

    def _affine(self, value: Value, index: Index) -> Any | None:
        """A value that positions alone determine (torch.arange, under views and shifts)."""
        index = tuple(map(self.builder.simplify, index))
        op = self.producers.get(value)
        if op is None or value.dtype not in INTEGERS:
            return None
        if (viewed := viewed_at(op, index)) is not None:
            return self._affine(op.operands[0], viewed)
        match op.name:
            case "tensor.iota":
                return self.builder.simplify(attr(op, "start") + index[0] * attr(op, "step"))
            case "tensor.constant" | "tensor.full" | "tensor.dim":
                return self.builder.simplify(attr(op, "value"))
            case "tensor.convert":
                return self._affine(op.operands[0], index)
            case "tensor.add" | "tensor.sub" | "tensor.mul":
                a, b = (self._affine(v, broadcast_index(index, v.shape)) for v in op.operands)
                if a is None or b is None:
                    return None
                found: Any = {"tensor.add": a + b, "tensor.sub": a - b, "tensor.mul": a * b}[
                    op.name
                ]
                return self.builder.simplify(found)
            case _:
                return None


def _convert(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    return e.apply(op, (e.at(op.operands[0], index, guards),))


def _converted_element(e: Evaluator, op: Op, element: Operand) -> Operand:
    source, target = op.operands[0].dtype, op.result.dtype
    value = e.cast(element, computed_as(target))
    if source == target or target not in ("f16", "bf16"):
        return value
    return e.builder.compute("round", "f32", (value,), (("to", target),))


def _constant(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    dtype = computed_as(op.result.dtype)
    return Constant(_converted(attr(op, "value"), dtype), dtype)


def _full(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    value = _constant(e, op, index, guards)
    assert isinstance(value, Constant), "a fill value is a constant"
    if op.result.dtype in ("f16", "bf16") and not _is_short(float(value.value)):
        return e.builder.compute("round", "f32", (value,), (("to", op.result.dtype),))
    return value


def _dim(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    return e.cast(e.builder.position(attr(op, "value")), computed_as(op.result.dtype))


def _iota(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    position = e.builder.position(attr(op, "start") + index[0] * attr(op, "step"))
    value = e.cast(position, computed_as(op.result.dtype))
    if op.result.dtype in ("f16", "bf16"):
        return e.builder.compute("round", "f32", (value,), (("to", op.result.dtype),))
    return value


def _concat(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    if (found := joined_pair(e, op, index, guards)) is not None:
        return found
    d = axis(attr(op, "dim"), len(index))
    start: Any = ZERO
    parts: list[tuple[Any, Operand]] = []
    for value in op.operands:
        size = value.shape[d]
        local = e.builder.simplify(index[d] - start)
        start = e.builder.simplify(start + size)
        if e.builder.is_within(local, size):
            return e.at(value, replaced(index, d, local), guards)
        if e.builder.is_within(-local - 1, -local + 1) or e.builder.is_within(
            local - size, local + 1
        ):
            continue  # all of it lies before, or after
        bounds = _needed(e, local, size)
        parts.append((start, e.at(value, replaced(index, d, local), (*guards, *bounds))))
    found = parts[-1][1]
    for end, part in reversed(parts[:-1]):
        first = e.builder.inside((Bound(index[d], False, _dim_of(end)),))
        found = e.builder.select(first, part, found)
    return found


def _pad(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    x = op.operands[0]
    local = tuple(e.builder.simplify(i - lo) for i, lo in zip(index, attr(op, "low"), strict=True))
    bounds = tuple(b for i, size in zip(local, x.shape, strict=True) for b in _needed(e, i, size))
    value = e.at(x, local, (*guards, *bounds))
    dtype = computed_as(x.dtype)
    if not bounds:
        return value
    beyond = Constant(_converted(attr(op, "value"), dtype), dtype)
    return e.builder.compute("tensor.where", dtype, (e.builder.inside(bounds), value, beyond))


def _triangle(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    above = index[-1] - index[-2] - attr(op, "diagonal")
    bound = Bound(e.builder.simplify(above if attr(op, "upper") else -above), True, None)
    dtype = computed_as(op.result.dtype)
    value = e.at(op.operands[0], index, (*guards, bound))
    zero = Constant(_converted(0, dtype), dtype)
    return e.builder.compute("tensor.where", dtype, (e.builder.inside((bound,)), value, zero))


def _gather(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    x, at = op.operands
    d = axis(attr(op, "dim"), len(index))
    return e.at(x, replaced(index, d, e.position_of(at, index, guards, x.shape[d], False)), guards)


def _take(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    x, at = op.operands
    d = axis(attr(op, "dim"), len(x.shape))
    chosen = index[d : d + len(at.shape)]
    position = e.position_of(at, chosen, guards, x.shape[d], True)
    return e.at(x, (*index[:d], position, *index[d + len(at.shape) :]), guards)


def _index(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    x, *tensors = op.operands
    dims = [axis(d, len(x.shape)) for d in attr(op, "dims")]
    rank = max(len(t.shape) for t in tensors)
    adjacent = all(b - a == 1 for a, b in pairwise(dims))
    first = dims[0] if adjacent else 0
    chosen = index[first : first + rank]
    rest = iter((*index[:first], *index[first + rank :]))
    positions = {
        d: e.position_of(t, broadcast_index(chosen, t.shape), guards, x.shape[d], True)
        for d, t in zip(dims, tensors, strict=True)
    }
    full = tuple(positions[d] if d in positions else next(rest) for d in range(len(x.shape)))
    return e.at(x, full, guards)


def _embedding(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand:
    table, at = op.operands
    row = e.position_of(at, index[:-1], guards, table.shape[0], False)
    return e.at(table, (row, index[-1]), guards)


_RULES: Mapping[str, Callable[[Evaluator, Op, Index, Guards], Operand]] = {
    "tensor.convert": _convert,
    "tensor.constant": _constant,
    "tensor.full": _full,
    "tensor.dim": _dim,
    "tensor.iota": _iota,
    "tensor.concat": _concat,
    "tensor.pad": _pad,
    "tensor.triangle": _triangle,
    "tensor.gather": _gather,
    "tensor.take": _take,
    "tensor.index": _index,
    "nn.embedding": _embedding,
}


def _needed(e: Evaluator, position: Any, size: Dim) -> Guards:
    """The part of 0 <= position < size that is not provable."""
    low = not e.builder.is_within(position, position + 1)
    high = not e.builder.is_within(size - 1 - position, size - position)
    return (Bound(position, low, size if high else None),) if low or high else ()


def _dim_of(position: Any) -> Dim:
    return int(position) if position.is_Integer else position


def _converted(value: Any, dtype: str) -> bool | int | float:
    if dtype == "bool":
        return bool(value)
    return float(value) if dtype in FLOATS else int(value)


def _is_short(value: float) -> bool:
    """Whether both 16-bit formats hold the value exactly: a small integer, halves and so on."""
    return abs(value) <= 256 and (value * 16).is_integer() and abs(value * 16) <= 256


def row_major(value: Value) -> tuple[Dim, ...]:
    """The value's strides, row-major where it states none."""
    return contiguous_strides(value.shape) if value.strides is None else value.strides
