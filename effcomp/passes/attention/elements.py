"""Integer tensors by formula: what stands at an index, where that is known at compile time."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from effcomp.ir import Op, Value, attr
from effcomp.ir.dims import within
from effcomp.ir.types import INTEGERS
from effcomp.rewrite import Program

Index = tuple[Any, ...]
_DEPTH = 24


@dataclass(frozen=True, slots=True)
class Grid:
    """Row and column symbols of a matrix, and how far they reach."""

    row: sympy.Symbol
    column: sympy.Symbol
    ranges: Mapping[sympy.Symbol, Any]

    def index(self, rank: int) -> Index:
        """The index tuple of a value that broadcasts to [..., rows, columns]."""
        return (*(sympy.Integer(0) for _ in range(rank - 2)), self.row, self.column)


def grid(rows: Any, columns: Any) -> Grid:
    """The grid of a rows x columns matrix."""
    row = sympy.Symbol("row_", integer=True, nonnegative=True)
    column = sympy.Symbol("column_", integer=True, nonnegative=True)
    return Grid(row, column, {row: rows, column: columns})


def element(program: Program, value: Value, index: Index, depth: int = _DEPTH) -> Any | None:
    """The integer at `index`, as an expression of the index's symbols; None where unknown."""
    maker = program.producer(value)
    if maker is None or depth == 0 or value.dtype not in INTEGERS:
        return None
    if maker.name in ("tensor.constant", "tensor.full", "tensor.dim"):
        return sympy.sympify(attr(maker, "value"))
    if maker.name == "tensor.iota":
        start, step = sympy.sympify(attr(maker, "start")), sympy.sympify(attr(maker, "step"))
        return start + step * index[0]
    if (combine := _ARITHMETIC.get(maker.name)) is not None:
        parts = [element(program, v, broadcast_index(v, index), depth - 1) for v in maker.operands]
        return None if any(p is None for p in parts) else combine(*parts)
    if maker.name == "tensor.convert":
        return element(program, maker.operands[0], index, depth - 1)
    inner = view_index(maker, index)
    return None if inner is None else element(program, maker.operands[0], inner, depth - 1)


_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "tensor.add": operator.add,
    "tensor.sub": operator.sub,
    "tensor.mul": operator.mul,
    "tensor.neg": operator.neg,
}


def broadcast_index(value: Value, index: Index) -> Index:
    """Where an elementwise op of a result at `index` reads this operand."""
    tail = index[len(index) - value.tensor.rank :]
    return tuple(
        sympy.Integer(0) if size == 1 else i for size, i in zip(value.shape, tail, strict=True)
    )


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
    return tuple(sympy.Integer(0) if size == 1 else next(left) for size in x.shape)


def nonnegative_form(
    program: Program, value: Value, index: Index, depth: int = _DEPTH
) -> Any | None:
    """An expression e such that the bool at `index` is e >= 0; None where there is none."""
    maker = program.producer(value)
    if maker is None or depth == 0:
        return None
    if maker.name in ("tensor.constant", "tensor.full"):
        return sympy.Integer(0 if attr(maker, "value") else -1)
    if maker.name in ("tensor.logical_not", "tensor.bitwise_not"):
        inner = nonnegative_form(program, maker.operands[0], index, depth - 1)
        return None if inner is None else -inner - 1
    if maker.name in ("tensor.le", "tensor.lt", "tensor.ge", "tensor.gt"):
        a, b = (element(program, v, broadcast_index(v, index), depth - 1) for v in maker.operands)
        if a is None or b is None:
            return None
        difference = b - a if maker.name in ("tensor.le", "tensor.lt") else a - b
        return difference - (1 if maker.name in ("tensor.lt", "tensor.gt") else 0)
    inner_index = view_index(maker, index)
    if inner_index is None:
        return None
    return nonnegative_form(program, maker.operands[0], inner_index, depth - 1)


def is_causal(form: Any, where: Grid) -> bool:
    """Whether e >= 0 says column <= row."""
    return sympy.expand(form - (where.row - where.column)) == 0


def always_holds(form: Any, where: Grid) -> bool:
    """Whether e >= 0 everywhere in the matrix."""
    return within(0, sympy.expand(form) + 1, where.ranges)
