"""Integer tensors by formula: what stands at an index, where that is known at compile time."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sympy

from effcomp.ir import Op, Value, attr
from effcomp.ir.dims import within
from effcomp.ir.types import INTEGERS
from effcomp.rewrite import Program

Index = tuple[Any, ...]
ZERO = sympy.Integer(0)
TRUE, FALSE = ZERO, sympy.Integer(-1)  # as forms: e >= 0
_DEPTH = 24


@dataclass(frozen=True, slots=True)
class Grid:
    """Row and column symbols of a matrix, and how far they reach."""

    row: sympy.Symbol
    column: sympy.Symbol
    ranges: Mapping[sympy.Symbol, Any]

    def index(self, value: Value) -> Index:
        """Where a value that broadcasts to [..., rows, columns] is read."""
        leading = (ZERO for _ in range(value.tensor.rank - 2))
        return broadcast_index(value, (*leading, self.row, self.column))

    def holds(self, form: Any) -> bool:
        """Whether e >= 0 everywhere in the matrix."""
        return within(0, sympy.expand(form) + 1, self.ranges)

    def is_causal(self, form: Any) -> bool:
        """Whether e >= 0 says column <= row."""
        return sympy.expand(form - (self.row - self.column)) == 0


def grid(rows: Any, columns: Any) -> Grid:
    """The grid of a rows x columns matrix."""
    row = sympy.Symbol("row_", integer=True, nonnegative=True)
    column = sympy.Symbol("column_", integer=True, nonnegative=True)
    return Grid(row, column, {row: rows, column: columns})


@dataclass(frozen=True, slots=True)
class Formulas:
    """Reads a program's integers and conditions as expressions of an index."""

    program: Program
    where: Grid

    def element(self, value: Value, index: Index, depth: int = _DEPTH) -> Any | None:
        """The integer at `index`, as an expression; None where unknown."""
        maker = self.program.producer(value)
        if maker is None or depth == 0 or value.dtype not in INTEGERS:
            return None
        if (combine := _ARITHMETIC.get(maker.name)) is not None:
            found = (self.element(v, broadcast_index(v, index), depth - 1) for v in maker.operands)
            parts = list(found)
            return None if any(p is None for p in parts) else combine(*parts)
        match maker.name:
            case "tensor.constant" | "tensor.full" | "tensor.dim":
                return sympy.sympify(attr(maker, "value"))
            case "tensor.iota":
                return attr(maker, "start") + attr(maker, "step") * index[0]
            case "tensor.convert":
                return self._converted(maker, index, depth - 1)
            case "tensor.cumsum":
                term = self.element(maker.operands[0], index, depth - 1)
                return ZERO if term == 0 else None
            case "tensor.index":
                return self._looked_up(maker, index, depth - 1)
            case "tensor.concat":
                return self._joined(maker, index, depth - 1)
            case _:
                inner = view_index(maker, index)
                return None if inner is None else self.element(maker.operands[0], inner, depth - 1)

    def _converted(self, maker: Op, index: Index, depth: int) -> Any | None:
        x = maker.operands[0]
        if x.dtype != "bool":
            return self.element(x, index, depth)
        form = self.condition(x, index, depth)
        if form is None:
            return None
        return sympy.Integer(1) if self.where.holds(form) else ZERO if form == FALSE else None

    def _looked_up(self, maker: Op, index: Index, depth: int) -> Any | None:
        """x[.., i, j, ..] for index tensors at adjacent dims."""
        x, *indices = maker.operands
        dims: tuple[int, ...] = attr(maker, "dims")
        if any(b - a != 1 for a, b in pairwise(dims)):
            return None
        rank = maker.result.tensor.rank - (x.tensor.rank - len(dims))
        middle = index[dims[0] : dims[0] + rank]
        found = [self.element(v, broadcast_index(v, middle), depth) for v in indices]
        if any(i is None or not self.where.holds(i) for i in found):
            return None  # negative indices count from the end
        return self.element(x, (*index[: dims[0]], *found, *index[dims[0] + rank :]), depth)

    def _joined(self, maker: Op, index: Index, depth: int) -> Any | None:
        """One formula that holds for every part, a part of size 1 being one point of it."""
        d: int = attr(maker, "dim") % maker.result.tensor.rank
        place: Any = sympy.Symbol("place_", integer=True, nonnegative=True)
        if any(place in getattr(i, "free_symbols", ()) for i in index):
            return None
        offset: Any = ZERO
        parts: list[tuple[Any, Any, Any]] = []
        for v in maker.operands:
            size: Any = v.shape[d]
            at: Index = (*index[:d], place - offset, *index[d + 1 :])
            parts.append((self.element(v, broadcast_index(v, at), depth), offset, size))
            offset = offset + size
        whole = parts[-1][0]
        for formula, start, size in parts:
            if formula is None or whole is None:
                return None
            difference = sympy.expand(formula - whole)
            if size == 1:
                difference = sympy.expand(difference.subs(place, start))
            if difference != 0:
                return None
        return whole.subs(place, index[d])

    def condition(self, value: Value, index: Index, depth: int = _DEPTH) -> Any | None:
        """An expression e such that the bool at `index` is e >= 0; None where there is none."""
        maker = self.program.producer(value)
        if maker is None or depth == 0 or value.dtype != "bool":
            return None
        match maker.name:
            case "tensor.constant" | "tensor.full":
                return TRUE if attr(maker, "value") else FALSE
            case "tensor.logical_not" | "tensor.bitwise_not":
                inner = self.condition(maker.operands[0], index, depth - 1)
                return None if inner is None else -inner - 1
            case "tensor.logical_and" | "tensor.bitwise_and":
                return self._both(maker, index, depth - 1)
            case "tensor.le" | "tensor.lt" | "tensor.ge" | "tensor.gt" | "tensor.eq" | "tensor.ne":
                return self._compared(maker, index, depth - 1)
            case _:
                inner_index = view_index(maker, index)
                if inner_index is None:
                    return None
                return self.condition(maker.operands[0], inner_index, depth - 1)

    def _both(self, maker: Op, index: Index, depth: int) -> Any | None:
        a, b = (self.condition(v, broadcast_index(v, index), depth) for v in maker.operands)
        if a is not None and self.where.holds(a):
            return b
        return a if b is not None and self.where.holds(b) else None

    def _compared(self, maker: Op, index: Index, depth: int) -> Any | None:
        a, b = (self.element(v, broadcast_index(v, index), depth) for v in maker.operands)
        if a is None or b is None:
            return None
        difference = sympy.expand(a - b)
        match maker.name:
            case "tensor.le":
                return -difference
            case "tensor.lt":
                return -difference - 1
            case "tensor.ge":
                return difference
            case "tensor.gt":
                return difference - 1
            case _ if difference.is_Integer:
                return TRUE if (difference == 0) == (maker.name == "tensor.eq") else FALSE
            case _:
                return None


_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "tensor.add": operator.add,
    "tensor.sub": operator.sub,
    "tensor.mul": operator.mul,
    "tensor.neg": operator.neg,
}


def broadcast_index(value: Value, index: Index) -> Index:
    """Where an elementwise op of a result at `index` reads this operand."""
    tail = index[len(index) - value.tensor.rank :]
    return tuple(ZERO if size == 1 else i for size, i in zip(value.shape, tail, strict=True))


def view_index(maker: Op, index: Index) -> Index | None:
    """Where a view reads its operand; None for what is no plain view."""
    x = maker.operands[0] if maker.operands else None
    if x is None:
        return None
    match maker.name:
        case "tensor.broadcast":
            return broadcast_index(x, index)
        case "tensor.permute":
            dims: Sequence[int] = attr(maker, "dims")
            return tuple(index[dims.index(d)] for d in range(len(dims)))
        case "tensor.slice":
            d: int = attr(maker, "dim") % x.tensor.rank
            moved = attr(maker, "start") + attr(maker, "step") * index[d]
            return (*index[:d], moved, *index[d + 1 :])
        case "tensor.reshape":
            return _reshaped(x, maker.result, index)
        case _:
            return None


def _reshaped(x: Value, result: Value, index: Index) -> Index | None:
    """Only reshapes that add or drop dims of size 1."""
    kept = [i for i, size in zip(index, result.shape, strict=True) if size != 1]
    if [s for s in result.shape if s != 1] != [s for s in x.shape if s != 1]:
        return None
    left = iter(kept)
    return tuple(ZERO if size == 1 else next(left) for size in x.shape)
