"""The tile IR: what one program of a kernel does to blocks of values, as data.

Every value spans a subset of the kernel's axes. Positions are sympy expressions over axis symbols,
sizes, and integer values of the kernel itself (a looked-up row), whose symbol is their name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import sympy

from effcomp.ir import Dim
from effcomp.ir.dims import FloorDiv, Mod


class Spread(Enum):
    """How the positions of an axis are covered."""

    GRID = "grid"  # programs take a block each
    WHOLE = "whole"  # every program holds all of it
    LOOP = "loop"  # every program walks it, a block at a time


@dataclass(frozen=True, slots=True)
class Axis:
    """One block variable: `symbol` runs over 0 <= symbol < extent, `block` positions at a time."""

    symbol: sympy.Symbol
    extent: Dim
    block: int
    spread: Spread = Spread.GRID

    @property
    def name(self) -> str:
        return self.symbol.name

    @property
    def is_vector(self) -> bool:
        """Whether values get a dimension for it; a block of one position is a scalar."""
        return self.block > 1


@dataclass(frozen=True, slots=True)
class Pointer:
    """A tensor in memory: parameter name and element type."""

    name: str
    dtype: str
    written: bool = False


@dataclass(frozen=True, slots=True)
class TileValue:
    """One value of the kernel: a block over `axes`, computed in `dtype`."""

    name: str
    dtype: str
    axes: tuple[str, ...]

    @property
    def symbol(self) -> sympy.Symbol:
        """An integer value as part of a position."""
        return sympy.Symbol(self.name, integer=True)


@dataclass(frozen=True, slots=True)
class Constant:
    """An immediate at full precision, computed with as `dtype`."""

    value: bool | int | float
    dtype: str


Operand = TileValue | Constant


@dataclass(frozen=True, slots=True)
class Bound:
    """position >= 0 (where `low`) and position < high (where given)."""

    position: sympy.Expr
    low: bool
    high: Dim | None


@dataclass(frozen=True, slots=True)
class Load:
    """The elements at `offset`; `other` where a bound of `mask` fails."""

    result: TileValue
    pointer: Pointer
    offset: sympy.Expr
    mask: tuple[Bound, ...] = ()
    other: int | float = 0


@dataclass(frozen=True, slots=True)
class Store:
    """Write `value` to `offset` where every bound of `mask` holds."""

    pointer: Pointer
    offset: sympy.Expr
    value: Operand
    mask: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """A position as a value."""

    result: TileValue
    expr: sympy.Expr


@dataclass(frozen=True, slots=True)
class Inside:
    """Whether every bound holds."""

    result: TileValue
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Compute:
    """Elementwise arithmetic: `op` is an elementwise op of the IR, "cast" or "round".

    "swap" alone looks beyond its lane: neighbours along the last vector axis are exchanged.
    """

    result: TileValue
    op: str
    operands: tuple[Operand, ...]
    attrs: tuple[tuple[str, str | float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reduce:
    """Combine along one axis.

    Kinds: sum, prod, amax and amin (NaN wins), peak (maximum, NaN loses), any, all.
    """

    result: TileValue
    kind: str
    operand: TileValue
    axis: str


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A block that a loop updates, `init` before the first turn."""

    value: TileValue
    init: Constant


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Fold `operand` into accumulators, lane by lane.

    Kinds are those of Reduce, and "softmax": a running maximum with the sum of exp(x - maximum).
    """

    kind: str
    targets: tuple[TileValue, ...]
    operand: Operand


@dataclass(frozen=True, slots=True)
class Loop:
    """Walk an axis, a block a turn."""

    axis: str
    accumulators: tuple[Accumulator, ...]
    body: tuple["Statement", ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One operand of a product: where its rows or columns begin, and the stride along the sum."""

    pointer: Pointer
    offset: sympy.Expr
    step: Dim
    mask: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A block of a matrix product over axes m and n, by the hand-written function `template`.

    Sums over `depth` elements, `block` at a time; float32 operands keep their precision.
    """

    result: TileValue
    template: str
    sides: tuple[Side, Side]
    depth: Dim
    block: int
    precision: str


Statement = Load | Store | Position | Inside | Compute | Reduce | Accumulate | Loop | Product


@dataclass(frozen=True, slots=True)
class TileKernel:
    """One kernel: its grid is the product of its GRID axes' blocks, the last axis fastest.

    Where `grouped`, the last two are walked in groups of that many blocks of the first of them.
    `wide` positions are 64-bit. `source` names the model lines that it computes.
    """

    name: str
    pointers: tuple[Pointer, ...]
    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    wide: bool = False
    num_warps: int = 4
    num_stages: int = 2
    source: tuple[str, ...] = ()
    grouped: int = 0

    def axis(self, name: str) -> Axis:
        return next(a for a in self.axes if a.name == name)

    @property
    def vector_axes(self) -> tuple[Axis, ...]:
        return tuple(a for a in self.axes if a.is_vector)

    @property
    def divides(self) -> bool:
        """Whether positions are divided: an axis counts through several dims of memory."""
        positions = (p for statement in self.walk() for p in positions_of(statement))
        return any(sympy.sympify(p).has(FloorDiv, Mod) for p in positions)

    def walk(self) -> Iterator[Statement]:
        """Every statement, a loop before its body."""
        yield from _walk(self.body)


def _walk(body: tuple[Statement, ...]) -> Iterator[Statement]:
    for statement in body:
        yield statement
        if isinstance(statement, Loop):
            yield from _walk(statement.body)


def results_of(statement: Statement) -> tuple[TileValue, ...]:
    """The values a statement defines."""
    match statement:
        case Store() | Accumulate():
            return ()
        case Loop(accumulators=accumulators):
            return tuple(a.value for a in accumulators)
        case _:
            return (statement.result,)


def operands_of(statement: Statement) -> tuple[Operand, ...]:
    """The values a statement computes with, those in its positions and its body aside."""
    match statement:
        case Store(value=value):
            return (value,)
        case Compute(operands=operands):
            return operands
        case Reduce(operand=operand):
            return (operand,)
        case Accumulate(targets=targets, operand=operand):
            return (*targets, operand)
        case _:
            return ()


def positions_of(statement: Statement) -> Iterator[sympy.Expr | Dim]:
    """The position expressions a statement holds, those of its body aside."""
    match statement:
        case Load(offset=offset, mask=mask) | Store(offset=offset, mask=mask):
            yield offset
            yield from _bound_positions(mask)
        case Position(expr=expr):
            yield expr
        case Inside(bounds=bounds):
            yield from _bound_positions(bounds)
        case Product(sides=sides, depth=depth):
            yield depth
            for side in sides:
                yield from (side.offset, side.step, *_bound_positions(side.mask))
        case _:
            return


def _bound_positions(bounds: tuple[Bound, ...]) -> Iterator[sympy.Expr | Dim]:
    for bound in bounds:
        yield bound.position
        if bound.high is not None:
            yield bound.high
