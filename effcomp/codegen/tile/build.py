"""Grow a kernel's statements: names, positions, masks, and what may stand outside the loop."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy

from effcomp.codegen.tile.index import expr
from effcomp.codegen.tile.ir import (
    Accumulator,
    Axis,
    Bound,
    Compute,
    Constant,
    Inside,
    Load,
    Loop,
    Operand,
    Pointer,
    Position,
    Product,
    Reduce,
    Side,
    Spread,
    Statement,
    Store,
    TileValue,
)
from effcomp.errors import LoweringError
from effcomp.ir import Dim
from effcomp.ir.dims import Mod, bounded, within

Guards = tuple[Bound, ...]


class Uncovered(LoweringError):
    """A group that the generator does not cover, and why."""


class Builder:
    """The statements of one kernel under construction.

    A statement goes to the outermost block that defines all it reads: what does not depend on a
    loop's positions stands before the loop. Equal statements are made once.
    """

    def __init__(self, axes: Sequence[Axis], *, wide: bool) -> None:
        self.axes = tuple(axes)
        self.wide = wide
        self.ranges: dict[Any, Any] = {a.symbol: a.extent for a in axes}
        self.body: list[Statement] = []
        self._loop: list[Statement] = []
        self._values: dict[Any, TileValue] = {}  # by symbol
        self._in_loop: set[str] = {a.name for a in axes if a.spread is Spread.LOOP}
        self._made: dict[Any, TileValue] = {}
        self._computed: dict[Operand, Compute] = {}
        self._simple: dict[Any, Any] = {}
        self._counts: dict[str, int] = {}
        self._axis_of: dict[Any, Axis] = {a.symbol: a for a in axes}

    # Positions.

    def simplify(self, position: Any) -> Any:
        """The position without what the ranges of its symbols make redundant."""
        position = expr(position)
        found = self._simple.get(position)
        if found is None:
            found = self._simple[position] = expr(bounded(position, self.ranges))
        return found

    def is_within(self, position: Any, size: Dim) -> bool:
        return within(position, size, self.ranges)

    def axes_of(self, *positions: Any) -> tuple[str, ...]:
        """The vector axes that positions vary along."""
        found: set[str] = set()
        for symbol in {s for p in positions for s in expr(p).free_symbols}:
            if (axis := self._axis_of.get(symbol)) is not None:
                found.add(axis.name)
            elif (value := self._values.get(symbol)) is not None:
                found.update(value.axes)
        return self.ordered(found)

    def ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        chosen = set(names)
        return tuple(a.name for a in self.axes if a.is_vector and a.name in chosen)

    def edges(self, axes: Iterable[str]) -> Guards:
        """Bounds that keep lanes past the end of the axes out; none where blocks divide extents."""
        named = set(axes)
        return tuple(
            Bound(a.symbol, False, a.extent)
            for a in self.axes
            if a.name in named and not expr(Mod(expr(a.extent), expr(a.block))).is_zero
        )

    def mask_of(self, offset: Any, guards: Guards) -> Guards:
        """The bounds that an access at this offset has to check."""
        axes = set(self.axes_of(offset))
        guarded = {g: set(self.axes_of(*_positions((g,)))) for g in guards}
        for _ in guards:  # a guard along other axes only says nothing about this address
            for found in guarded.values():
                axes |= found if found & axes else set()
        kept = tuple(g for g, found in guarded.items() if not found or found & axes)
        return (*self.edges(axes), *kept)

    def symbol_for(self, value: TileValue, size: Dim) -> Any:
        """An integer value, known to lie in [0, size), as part of a position."""
        self._values[value.symbol] = value
        self.ranges[value.symbol] = size
        return value.symbol

    # Statements.

    def load(self, pointer: Pointer, dtype: str, offset: Any, guards: Guards) -> TileValue:
        mask = self.mask_of(offset, guards)
        axes = self.axes_of(offset, *_positions(mask))
        return self._make(
            lambda v: Load(v, pointer, offset, mask),
            ("load", pointer, offset, mask), pointer.name, dtype, axes, (offset, *_positions(mask)),
        )  # fmt: skip

    def store(self, pointer: Pointer, offset: Any, value: Operand) -> None:
        offset = self.simplify(offset)
        missing = set(_axes(value)) - set(self.axes_of(offset))
        assert not missing, f"{pointer.name} is stored without axes {missing} of its value"
        statement = Store(pointer, offset, value, self.edges(self.axes_of(offset)))
        names = _reads((offset,), (value,))
        (self._loop if names & self._in_loop else self.body).append(statement)

    def position(self, position: Any) -> Operand:
        """A position as an i64 value."""
        position = self.simplify(position)
        if position.is_Integer:
            return Constant(int(position), "i64")
        axes = self.axes_of(position)
        return self._make(
            lambda v: Position(v, position), ("position", position), "at", "i64", axes, (position,)
        )

    def inside(self, bounds: Guards) -> TileValue:
        positions = _positions(bounds)
        return self._make(
            lambda v: Inside(v, bounds), ("inside", bounds), "inside", "bool",
            self.axes_of(*positions), positions,
        )  # fmt: skip

    def compute(
        self,
        op: str,
        dtype: str,
        operands: Sequence[Operand],
        attrs: tuple[tuple[str, Any], ...] = (),
    ) -> TileValue:
        given = tuple(operands)
        axes = self.ordered(name for o in given for name in _axes(o))
        prefix = op.rpartition(".")[2]
        typed = tuple(repr(o) if isinstance(o, Constant) else o for o in given)

        def make(value: TileValue) -> Compute:
            self._computed[value] = Compute(value, op, given, attrs)
            return self._computed[value]

        return self._make(make, (op, dtype, typed, attrs), prefix, dtype, axes, (), given)

    def select(self, condition: TileValue, a: Operand, b: Operand) -> TileValue:
        """`a` where the condition holds, else `b`; f(a), f(b) => f of the one or the other."""
        x, y = self._computed.get(a), self._computed.get(b)
        same = x and y and (x.op, x.attrs, len(x.operands)) == (y.op, y.attrs, 1)
        if x and y and same and x.op != "swap":  # which looks at another lane's condition
            (one,), (other,) = x.operands, y.operands
            if one.dtype == other.dtype:
                return self.compute(x.op, a.dtype, (self.select(condition, one, other),), x.attrs)
        return self.compute("tensor.where", a.dtype, (condition, a, b))

    def reduce(self, kind: str, operand: TileValue, axis: str) -> TileValue:
        axes = tuple(a for a in operand.axes if a != axis)
        return self._make(
            lambda v: Reduce(v, kind, operand, axis), ("reduce", kind, operand, axis),
            f"row_{kind}", operand.dtype, axes, (), (operand,),
        )  # fmt: skip

    def product(
        self, template: str, sides: tuple[Side, Side], depth: Dim, block: int, precision: str
    ) -> TileValue:
        axes = self.axes_of(*(side.offset for side in sides))
        value = TileValue(self._fresh("product"), "f32", axes)
        self.body.append(Product(value, template, sides, depth, block, precision))
        return value

    def accumulator(self, kind: str, dtype: str) -> TileValue:
        """A block over all vector axes, for a loop to update."""
        return TileValue(self._fresh(kind), dtype, tuple(a.name for a in self.axes if a.is_vector))

    def add(self, statement: Statement) -> None:
        """Append to the loop being built."""
        self._loop.append(statement)

    @property
    def has_loop(self) -> bool:
        """Whether a loop is being built."""
        return bool(self._loop)

    def close_loop(self, axis: str, accumulators: Sequence[Accumulator]) -> None:
        """End the loop: its statements become one, and its values are forgotten."""
        self.body.append(Loop(axis, tuple(accumulators), tuple(self._loop)))
        gone = self._in_loop - {a.name for a in self.axes}
        self._loop = []
        self._made = {k: v for k, v in self._made.items() if v.name not in gone}
        self._in_loop -= gone

    def is_looped(self, operand: Operand) -> bool:
        """Whether an operand exists only inside the loop."""
        return isinstance(operand, TileValue) and operand.name in self._in_loop

    def _make(
        self,
        make: Callable[[TileValue], Statement],
        key: Any,
        prefix: str,
        dtype: str,
        axes: tuple[str, ...],
        positions: Sequence[Any],
        operands: Sequence[Operand] = (),
    ) -> TileValue:
        if (found := self._made.get(key)) is not None:
            return found
        value = TileValue(self._fresh(prefix), dtype, axes)
        if _reads(positions, operands) & self._in_loop:
            self._in_loop.add(value.name)
            self._loop.append(make(value))
        else:
            self.body.append(make(value))
        self._made[key] = value
        return value

    def _fresh(self, prefix: str) -> str:
        count = self._counts.get(prefix, 0)
        self._counts[prefix] = count + 1
        return f"{prefix}_{count}"


def _positions(bounds: Guards) -> tuple[Any, ...]:
    return tuple(p for b in bounds for p in (b.position, b.high) if p is not None)


def _axes(operand: Operand) -> tuple[str, ...]:
    return operand.axes if isinstance(operand, TileValue) else ()


def _reads(positions: Sequence[Any], operands: Sequence[Operand]) -> set[str]:
    """Names of the axes and values that a statement reads."""
    symbols: set[sympy.Symbol] = {s for p in positions for s in expr(p).free_symbols}
    return {s.name for s in symbols} | {o.name for o in operands if isinstance(o, TileValue)}
