"""Joins of two, element by element: interleaved rotary embeddings without strided access.

Element c of `reshape(concat(a, b, dim=-1), (.., 2 m))` is part c % 2 at pair c // 2. The parts of a
rotation read one tensor at columns 2 p and 2 p + 1: of a lane's own column or its neighbour's. So
the tensor is evaluated once at c, in order, and neighbours are exchanged in registers, where
evaluating each part at its own columns would load single elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy

from effcomp.codegen.tile.build import Guards
from effcomp.codegen.tile.index import ZERO, Index, broadcast_index, expr, replaced, viewed_at
from effcomp.codegen.tile.ir import Axis, Bound, Operand, TileValue
from effcomp.ir import Op, Trait, Value, attr, spec_of
from effcomp.ir.dims import FloorDiv, Mod
from effcomp.ir.ops.infer import axis as axis_of

if TYPE_CHECKING:
    from effcomp.codegen.tile.evaluate import Evaluator

Element = Callable[[], Operand]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Lanes along `axis` at `column` of a dim of 2 `count`; the pair stands at `place`."""

    axis: Axis
    column: Any
    count: int
    place: int

    @property
    def symbol(self) -> Any:
        """The pair that a lane belongs to, while its part is looked for; no statement holds it.

        One for each count: what is known of a symbol's range never changes.
        """
        return sympy.Symbol(f"pair_{self.count}", integer=True, nonnegative=True)


def joined_pair(e: Evaluator, op: Op, index: Index, guards: Guards) -> Operand | None:
    """The element of a join of two parts that alternate; None where it is no such join."""
    d = axis_of(attr(op, "dim"), len(index))
    if len(op.operands) != 2 or any(v.shape[d] != 1 for v in op.operands):
        return None
    pairs = _pairs_of(e, index, d)
    if pairs is None:
        return None
    inner = replaced(replaced(index, pairs.place, pairs.symbol), d, ZERO)
    e.builder.ranges[pairs.symbol] = pairs.count
    search = _Search(e, pairs, guards)
    found = [search.element(v, inner, parity) for parity, v in enumerate(op.operands)]
    even, odd = found
    if even is None or odd is None:
        return None
    first, second = even(), odd()
    inside = e.builder.inside((Bound(index[d], False, 1),))
    return e.builder.compute("tensor.where", first.dtype, (inside, first, second))


def _pairs_of(e: Evaluator, index: Index, d: int) -> _Pairs | None:
    """How the lanes fall into pairs: parity at `d`, the pair at one other place."""
    axes = [a for a in e.builder.axes if a.is_vector]
    if not axes or axes[-1].block % 2 != 0 or index[d] != Mod(axes[-1].symbol, sympy.Integer(2)):
        return None
    axis = axes[-1]
    half = FloorDiv(axis.symbol, sympy.Integer(2))
    places = [k for k, position in enumerate(index) if k != d and position.has(axis.symbol)]
    counts = [(k, n) for k in places if (n := _pair_count(index[k], half, axis)) is not None]
    if len(counts) != 1 or any(not _same_for_neighbours(index[k], axis) for k in places):
        return None
    ((place, count),) = counts
    whole = index[place] == half
    column = axis.symbol if whole else Mod(axis.symbol, sympy.Integer(2 * count))
    return _Pairs(axis, column, count, place)


def _pair_count(position: Any, half: Any, axis: Axis) -> int | None:
    """How many pairs a row holds, if `position` is the lane's pair: half the axis, or modulo."""
    if position == half and isinstance(axis.extent, int) and axis.extent % 2 == 0:
        return axis.extent // 2
    if isinstance(position, Mod) and position.args[0] == half and position.args[1].is_Integer:
        return int(position.args[1])
    return None


def _same_for_neighbours(position: Any, axis: Axis) -> bool:
    """Whether both lanes of a pair stand at the same position: halves of the axis only."""
    wholes = [f for f in position.atoms(FloorDiv) if f.args[0] == axis.symbol]
    even = {f: sympy.Dummy() for f in wholes if f.args[1].is_Integer and f.args[1] % 2 == 0}
    return not position.xreplace(even).has(axis.symbol)


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks through a part for values whose columns are a lane's own or its neighbour's.

    What it finds is evaluated only once both parts are found.
    """

    e: Evaluator
    pairs: _Pairs
    guards: Guards

    def element(self, value: Value, index: Index, parity: int) -> Element | None:
        """The part's element, right in lanes of this parity."""
        index = tuple(map(self.e.builder.simplify, index))
        touched = [k for k, position in enumerate(index) if position.has(self.pairs.symbol)]
        if not touched:
            return lambda: self.e.at(value, index, self.guards)
        if len(touched) == 1 and (found := self._column(value, index, touched[0])) is not None:
            column, own = found
            if column == parity:
                return lambda: self.e.at(value, own, self.guards)
            return lambda: self._swapped(self.e.at(value, own, self.guards))
        op = self.e.maker(value)
        if op is None:
            return None
        if (viewed := viewed_at(op, index)) is not None:
            return self.element(op.operands[0], viewed, parity)
        if Trait.ELEMENTWISE not in spec_of(op).traits:
            return None
        parts = [self.element(v, broadcast_index(index, v.shape), parity) for v in op.operands]
        return self._applied(op, parts)

    def _column(self, value: Value, index: Index, place: int) -> tuple[int, Index] | None:
        """Which column of its pair is read, 0 or 1, and the index of a lane's own column.

        The position is `base + 2 pair + column`. None where lanes of the other column might read
        past the end.
        """
        offset = expr(index[place] - 2 * self.pairs.symbol)
        if offset.has(self.pairs.symbol) or value.dtype == "bool":
            return None
        column = int(offset.as_coeff_Add()[0]) % 2
        own = self.e.builder.simplify(offset - column + self.pairs.column)
        if not self.e.builder.is_within(own, value.shape[place]):
            return None
        return column, replaced(index, place, own)

    def _swapped(self, element: Operand) -> Operand:
        if not isinstance(element, TileValue) or self.pairs.axis.name not in element.axes:
            return element
        return self.e.builder.compute("swap", element.dtype, (element,))

    def _applied(self, op: Op, parts: Sequence[Element | None]) -> Element | None:
        found = [part for part in parts if part is not None]
        if len(found) != len(parts):
            return None
        return lambda: self.e.apply(op, [part() for part in found])
