"""Tile `fused.pointwise`: one flat axis, or two where memory is contiguous along two dims."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy

from effcomp.codegen.tile.build import Builder
from effcomp.codegen.tile.evaluate import Evaluator
from effcomp.codegen.tile.group import (
    Group,
    TiledGroup,
    bytes_per_element,
    ceil_div,
    group_of,
    kernel_name,
    occupying,
    power_at_least,
    require,
    source_lines,
)
from effcomp.codegen.tile.index import Index, expr, memory_order, offset_of, unflatten, unflatten_in
from effcomp.codegen.tile.ir import Axis, Load, Statement, Store, TileKernel
from effcomp.codegen.tile.prune import prune
from effcomp.ir import Dim, Op
from effcomp.ir.dims import product, same_shape
from effcomp.ir.types import ITEMSIZE
from effcomp.target import Target

BYTES_IN_FLIGHT = 16 * 1024  # what a program of four warps loads and stores at once
MAX_BLOCK = 1024
TILE_SIDE = 64  # of a transposing tile
# In double precision hundreds of instructions an element, unrolled for all elements of a thread:
# where a thread has eight, a few of them exceed the instruction cache.
SLOW_OPS = frozenset(
    f"tensor.{name}"
    for name in (
        "atan2", "cos", "erf", "exp", "exp2", "expm1", "log", "log1p", "log2", "pow", "sigmoid",
        "sin", "tan", "tanh",
    )
)  # fmt: skip
SLOW_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Space:
    """The axes of an iteration, and the domain's index in terms of them."""

    axes: tuple[Axis, ...]
    index: Index


def tile_pointwise(op: Op, target: Target) -> TiledGroup:
    """Tile a pointwise group. Raises Uncovered where the generator does not cover it."""
    group = group_of(op)
    shape = group.body.outputs[0].shape
    require(
        all(same_shape(v.shape, shape) for v in group.body.outputs),
        "the outputs of a pointwise group differ in shape",
    )
    slow = any(o.name in SLOW_OPS and o.result.dtype == "f64" for o in group.body.ops)
    block, elements = (MAX_BLOCK, 256) if not slow else (SLOW_BLOCK, 32)
    space = _space_for(group, shape, target, block)
    kernel = _kernel(op, group, space, elements)
    if kernel.divides and (split := _split(space, shape, memory_order(group.results[0].strides))):
        space = split
        kernel = _kernel(op, group, space, elements)
    programs = product(ceil_div(a.extent, a.block) for a in space.axes)
    return TiledGroup(kernel, (*op.operands, *op.results), programs)


def _kernel(op: Op, group: Group, space: Space, elements: int) -> TileKernel:
    return TileKernel(
        kernel_name(op), group.pointers, space.axes, prune(_evaluate(group, space).body),
        group.wide, num_warps=_warps_for(space, elements), source=source_lines(op),
    )  # fmt: skip


def _evaluate(group: Group, space: Space) -> Builder:
    builder = Builder(space.axes, wide=group.wide)
    evaluator = Evaluator(group.body, builder, group.memory)
    values = [evaluator.at(v, space.index) for v in group.body.outputs]
    for value, place in zip(values, group.results, strict=True):
        builder.store(place.pointer, offset_of(space.index, place.strides), value)
    return builder


def _space_for(group: Group, shape: Sequence[Dim], target: Target, most: int) -> Space:
    """Flat, unless accesses are contiguous along a dim other than the innermost.

    Dims are walked as they lie in the memory of the first result.
    """
    order = memory_order(group.results[0].strides)
    inner, outer = _contiguous_dims(group, shape, order)
    total = product(shape)
    if outer is None:
        size = bytes_per_element(group, shape)
        block = min(_flat_block(total, size, target), most)
        i = sympy.Symbol("i", integer=True, nonnegative=True)
        return Space((Axis(i, total, block),), unflatten_in(i, shape, order))
    return _tiled_space(shape, order, inner, outer)


def _split(space: Space, shape: Sequence[Dim], order: Sequence[int]) -> Space | None:
    """A flat space on two axes, where blocks stay within the innermost dim: whatever the others
    decide alone, such as a row to look up, is one element then and not one for each.
    """
    *others, inner = [shape[d] for d in order if shape[d] != 1] or [1]
    (i, *more) = space.axes
    if more or not others or not isinstance(inner, int) or inner % i.block:
        return None
    outer = sympy.Symbol("outer", integer=True, nonnegative=True)
    axes = (Axis(outer, product(others), 1), replace(i, extent=inner))
    return Space(axes, unflatten_in(outer * inner + i.symbol, shape, order))


def _flat_block(total: Dim, size: int, target: Target) -> int:
    block = min(max(power_at_least(BYTES_IN_FLIGHT // size) // 2, 256), MAX_BLOCK)
    block = occupying(block, total, target, 128)
    return min(block, power_at_least(total)) if isinstance(total, int) else block


def _tiled_space(shape: Sequence[Dim], order: Sequence[int], inner: int, outer: int) -> Space:
    """Axes (rest, i, j): j covers dim `inner` and i dim `outer`, a block of each."""
    i, j, rest = (sympy.Symbol(n, integer=True, nonnegative=True) for n in ("i", "j", "rest"))
    others = [d for d in order if d not in (inner, outer)]
    index: list[Any] = [expr(0)] * len(shape)
    index[inner], index[outer] = j, i
    sizes = [shape[d] for d in others]
    for d, position in zip(others, unflatten(rest, sizes), strict=True):
        index[d] = position
    narrow = _side(shape[inner], TILE_SIDE)
    long = _side(shape[outer], max(TILE_SIDE, MAX_BLOCK // narrow))
    narrow = _side(shape[inner], max(TILE_SIDE, 2 * MAX_BLOCK // long))  # beside a short dim
    axes = [Axis(i, shape[outer], long), Axis(j, shape[inner], narrow)]
    if (count := product(sizes)) != 1:
        axes.insert(0, Axis(rest, count, 1))
    return Space(tuple(axes), tuple(index))


def _side(size: Dim, most: int) -> int:
    return min(most, power_at_least(size)) if isinstance(size, int) else most


def _warps_for(space: Space, elements: int) -> int:
    """A warp for so many elements."""
    block = 1
    for a in space.axes:
        block *= a.block
    return min(max(block // elements, 1), 8)


def _contiguous_dims(
    group: Group, shape: Sequence[Dim], order: Sequence[int]
) -> tuple[int, int | None]:
    """The innermost dim that is not 1, and another along which large accesses are contiguous."""
    wide_dims = [d for d in order if shape[d] != 1]
    if not wide_dims:
        return 0, None
    inner = wide_dims[-1]
    probe = tuple(
        expr(0) if d not in wide_dims else sympy.Symbol(f"i{d}", integer=True, nonnegative=True)
        for d in range(len(shape))
    )
    axes = [Axis(probe[d], shape[d], 2) for d in wide_dims]
    body = _evaluate(group, Space(tuple(axes), probe)).body
    weights: dict[int, int] = {}
    for offset, size in _accesses(body):
        if (d := _unit_dim(offset, probe, wide_dims)) is not None:
            weights[d] = weights.get(d, 0) + size
    others = {d: w for d, w in weights.items() if d != inner and _is_long(shape[d])}
    if not others:
        return inner, None
    return inner, max(others, key=lambda d: (others[d], d))


def _accesses(body: Sequence[Statement]) -> list[tuple[Any, int]]:
    return [(s.offset, ITEMSIZE[s.pointer.dtype]) for s in body if isinstance(s, (Load, Store))]


def _unit_dim(offset: Any, probe: Index, dims: Sequence[int]) -> int | None:
    """The dim along which neighbours lie next to each other in memory."""
    inner = probe[dims[-1]]
    if expr(offset).coeff(inner) == 1:
        return dims[-1]
    for d in reversed(dims):
        if expr(offset).coeff(probe[d]) == 1:
            # Contiguous along an outer dim pays only if the inner one jumps.
            return d if inner in offset.free_symbols else None
    return None


def _is_long(size: Dim) -> bool:
    """Whether a dim is worth a side of a tile."""
    return not isinstance(size, int) or size >= 8
