"""What random graphs grow from: values so far, and draws that decide how to go on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from effcomp.ir import Attr, Dim, Graph, Op, OpSpec, SizeType, Type, Value, ops, parse_dim
from effcomp.ir.dims import contiguous_strides, print_dim, product, symbol
from effcomp.ir.types import FLOATS, INTEGERS, TensorType
from effcomp.plan.expressions import evaluate

MOST_ELEMENTS = 1500
Draw = Callable[[st.SearchStrategy[Any]], Any]
Wanted = Callable[[Value], bool]


def is_float(v: Value) -> bool:
    return v.dtype in FLOATS


def is_integer(v: Value) -> bool:
    return v.dtype in INTEGERS


def is_tensor(v: Value) -> bool:
    return isinstance(v.type, TensorType)


@dataclass
class Grower:
    """A graph under construction. Every op it adds keeps floats in a moderate range."""

    draw: Draw
    dtypes: Sequence[str]
    sizes: Mapping[str, int]
    dims: Sequence[Dim]
    params: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    pool: list[Value] = field(default_factory=list)

    # Draws.

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, one_in: int) -> bool:
        return self.integer(1, one_in) == one_in

    def shape(self, least: int = 0, most: int = 4) -> tuple[Dim, ...]:
        """A shape over the graph's few dims, so that values meet."""
        rank = self.integer(least, most)
        found = tuple(self.choose(self.dims) for _ in range(rank))
        return found if self.fits(found) else found[-1:] or (2,)

    def pick(self, wanted: Wanted = is_float, least: int = 0) -> Value | None:
        """A value there is, of at least rank `least`; the youngest first when shrinking."""
        found = [v for v in reversed(self.pool) if wanted(v) and len(v.shape) >= least]
        # Half of the steps go on from what is new, so that chains become long.
        return self.choose(found[:3] if self.chance(2) else found) if found else None

    def axis(self, v: Value) -> int:
        """One of a value's dims, counted from either end."""
        return self.integer(-len(v.shape), len(v.shape) - 1)

    # Sizes.

    def value_of(self, size: Dim) -> int:
        return evaluate(size if isinstance(size, int) else print_dim(size), self.sizes)

    def fits(self, shape: Sequence[Dim]) -> bool:
        """Whether a shape is small enough to be evaluated quickly."""
        return self.value_of(product(shape)) <= MOST_ELEMENTS

    # Building.

    def param(self, kind: Type, *, weight: bool = False, plain: bool = False) -> Value:
        strides = None
        if isinstance(kind, TensorType) and not weight and not plain and self.chance(3):
            strides = self._strides(kind.shape)
        made = Value(kind, f"{'w' if weight else 'x'}{len(self.params)}", strides, weight)
        self.params.append(made)
        if not weight and isinstance(kind, TensorType):
            self.pool.append(made)
        return made

    def _strides(self, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """Dims in another order, or rows with a gap between them."""
        if self.chance(2) and shape:
            wide = contiguous_strides((*shape[:-1], shape[-1] + self.integer(1, 3)))
            return tuple(wide)
        order = self.draw(st.permutations(range(len(shape))))
        dense = contiguous_strides([shape[i] for i in order])
        return tuple(dense[order.index(i)] for i in range(len(shape)))

    def add(self, spec: OpSpec, *operands: Value, **attrs: Attr) -> Value:
        """Add an op with one result; the caller decides whether others may read it."""
        loc = f"model.py:{len(self.ops) + 1}" if len(self.ops) % 3 == 0 else ""
        made = spec.build(*operands, loc=loc, **attrs)
        self.ops.append(made)
        return made.results[0]

    def keep(self, *values: Value) -> None:
        """Offer values to later steps, where they are small enough."""
        self.pool += [v for v in values if self.fits(v.shape)]

    def constant(self, value: bool | int | float, dtype: str) -> Value:
        return self.add(ops.elementwise.constant, value=value, dtype=dtype)

    def number(self, dtype: str) -> Value:
        """A constant of moderate size, and no special one too often."""
        if dtype == "bool":
            return self.constant(self.draw(st.booleans()), dtype)
        if dtype in INTEGERS:
            return self.constant(self.integer(0, 5), dtype)
        return self.constant(self.choose((0.5, 1.0, 0.0, -1.0, 2.0, 0.317, -1.71)), dtype)

    def scaled(self, v: Value, factor: float) -> Value:
        return self.add(ops.elementwise.mul, v, self.constant(factor, v.dtype))

    def index_below(self, size: Dim, index: Value) -> Value:
        """Integers as indices of a dim of this size."""
        limit = (
            self.constant(size, index.dtype)
            if isinstance(size, int)
            else self.add(ops.elementwise.size_as_tensor, value=size, dtype=index.dtype)
        )
        return self.add(ops.elementwise.remainder, index, limit)

    def finish(self, outputs: Sequence[Value]) -> Graph:
        """The graph; a size that no param's dim gives becomes a param of its own."""
        alone = {d for p in self.params if is_tensor(p) for d in p.shape}
        for name in sorted(self.sizes):
            if symbol(name) not in alone:
                self.params.append(Value(SizeType(symbol(name)), f"n{len(self.params)}"))
        return Graph("random", tuple(self.params), tuple(self.ops), tuple(outputs))


def some_dims(names: Sequence[str]) -> st.SearchStrategy[list[Dim]]:
    """The few dims of one graph, symbolic ones among them."""
    plain = st.sampled_from((1, 2, 3, 4, 6, 8))
    if not names:
        return st.lists(plain, min_size=2, max_size=4)
    texts = [f for n in names for f in (n, f"2*{n}", f"{n} + 1")]
    return st.lists(st.one_of(plain, st.sampled_from(texts).map(parse_dim)), min_size=2, max_size=5)
