"""Tile `fused.rowwise`: whole rows in registers, or several passes over their columns."""

from dataclasses import dataclass

from effcomp.codegen.tile.build import Builder, Uncovered
from effcomp.codegen.tile.group import (
    Group,
    TiledGroup,
    ceil_div,
    group_of,
    kernel_name,
    occupying,
    power_at_least,
    source_lines,
)
from effcomp.codegen.tile.index import offset_of
from effcomp.codegen.tile.ir import Accumulate, Accumulator, Axis, Constant, Spread, TileKernel
from effcomp.codegen.tile.prune import prune
from effcomp.codegen.tile.rows import (
    COL,
    OUTER,
    PARTS,
    ROW,
    RowSpace,
    Statistics,
    neutral,
    row_space,
)
from effcomp.ir import Op, Trait, Value, spec_of
from effcomp.ir.dims import product, same
from effcomp.target import Target

MAX_WHOLE = 16384  # columns that registers hold
MAX_TENSORS = 3  # full-size operands; with more, half as many columns
TILE = 2048  # elements of a block of several rows, or of a turn of the loop
STRIDED_ROWS = 32  # neighbouring rows a block takes at least where columns are strided
FEW_COLUMNS = 16  # strided columns that are walked one by one
LONG_ROWS = (128, 1024)  # neighbouring rows of a block then
SPLIT_COLUMNS = 2**17  # rows this long want more than one program each


@dataclass(frozen=True, slots=True)
class RowTiling:
    """Blocks of a row-wise kernel; `looped` walks the columns."""

    rows: int
    columns: int
    looped: bool
    num_warps: int


def tile_rowwise(op: Op, target: Target) -> TiledGroup:
    """Tile a row-wise group. Raises Uncovered where the generator does not cover it."""
    group = group_of(op)
    space = row_space(group)
    _require_work(space, target)
    tiling = _tiling_for(group, space, target)
    rows = (Axis(ROW, space.rows, tiling.rows),)
    kernel = _kernel(op, group, space, rows, tiling)
    if kernel.divides and (split := _split_rows(space, tiling.rows)):
        space, rows = split
        kernel = _kernel(op, group, space, rows, tiling)
    programs = product(ceil_div(a.extent, a.block) for a in rows)
    return TiledGroup(kernel, (*op.operands, *op.results), programs)


def _kernel(
    op: Op, group: Group, space: RowSpace, rows: tuple[Axis, ...], tiling: RowTiling
) -> TileKernel:
    columns = Spread.LOOP if tiling.looped else Spread.WHOLE
    axes = (*rows, Axis(COL, space.columns, tiling.columns, columns))
    builder = Builder(axes, wide=group.wide)
    statistics = Statistics(group, space, builder)
    if tiling.looped:
        _passes(group, statistics)
    _outputs(group, statistics, tiling.looped)
    return TileKernel(
        kernel_name(op), group.pointers, axes, prune(builder.body), group.wide,
        num_warps=tiling.num_warps, source=source_lines(op),
    )  # fmt: skip


def _require_work(space: RowSpace, target: Target) -> None:
    rows, columns = space.rows, space.columns
    if columns == 0:
        raise Uncovered("a row of no columns has nothing to reduce")
    if not isinstance(rows, int) or not isinstance(columns, int):
        return
    if 8 * rows <= target.processors and columns >= SPLIT_COLUMNS:
        raise Uncovered(f"{rows} rows of {columns} columns would leave most of the device idle")


def _tiling_for(group: Group, space: RowSpace, target: Target) -> RowTiling:
    columns = space.columns
    strided = space.inner in space.kept and columns != 1
    full = sum(same(v.tensor.numel, space.rows * columns) for v in (*group.body.params,))
    most = MAX_WHOLE if full <= MAX_TENSORS else MAX_WHOLE // 2
    if strided:
        return _walked_tiling(group, space, target) or _strided_tiling(space, target)
    if not isinstance(columns, int) or power_at_least(columns) > most:
        few = isinstance(space.rows, int) and space.rows <= target.processors
        return RowTiling(1, 4 * TILE, True, 16) if few else RowTiling(1, TILE, True, 8)
    block = power_at_least(columns)
    if block >= TILE:
        return RowTiling(1, block, False, min(max(block // 512, 4), 16))
    rows = TILE // 2 // block if block <= TILE // 2 else 1
    if isinstance(space.rows, int):
        rows = occupying(min(rows, power_at_least(space.rows)), space.rows, target, 1)
    return RowTiling(rows, block, False, min(max(rows * block // 256, 1), 4))


def _walked_tiling(group: Group, space: RowSpace, target: Target) -> RowTiling | None:
    """Columns one by one, for a few of them that are read once.

    A turn of the loop then reads neighbouring rows whole, and what is looked up for a column is a
    scalar; a block of columns would have every lane look it up.
    """
    inner, columns = space.shape[space.kept[-1]], space.columns
    reads_once = max(_levels(group).values()) == 1 and all(
        same(v.tensor.numel, space.rows) for v in group.body.outputs
    )
    if not reads_once or not isinstance(inner, int) or not isinstance(columns, int):
        return None
    least, rows = LONG_ROWS
    while rows > least and inner % rows:
        rows //= 2
    if columns > FEW_COLUMNS or inner % rows:
        return None
    rows = occupying(rows, space.rows, target, least)
    return RowTiling(rows, 1, True, rows // 256 or 1)


def _strided_tiling(space: RowSpace, target: Target) -> RowTiling:
    """Blocks that span neighbouring rows: those lie next to each other in memory."""
    rows = STRIDED_ROWS
    if isinstance(space.columns, int):
        rows = max(rows, TILE // power_at_least(space.columns))
    rows = occupying(rows, space.rows, target, STRIDED_ROWS)
    if isinstance(space.rows, int):
        rows = min(rows, power_at_least(space.rows))
    most = TILE // rows
    if isinstance(space.columns, int) and power_at_least(space.columns) <= 2 * most:
        return RowTiling(rows, power_at_least(space.columns), False, 4)
    return RowTiling(rows, most, True, 4)


def _split_rows(space: RowSpace, block: int) -> tuple[RowSpace, tuple[Axis, Axis]] | None:
    """Rows on two axes, where blocks stay within the inner dim: whatever depends on the other dims
    alone, such as what is looked up by them, is one element then and not one for each row.
    """
    *others, inner = (space.shape[d] for d in space.kept) if space.kept else (1,)
    if block == 1 or not isinstance(inner, int) or inner % block:
        return None
    return space.split(), (Axis(OUTER, product(others), 1), Axis(ROW, inner, block))


def _outputs(group: Group, statistics: Statistics, looped: bool) -> None:
    builder, space = statistics.builder, statistics.space
    for value, place in zip(group.body.outputs, group.results, strict=True):
        index = tuple(map(builder.simplify, space.output_index(value)))
        element = statistics.evaluator.at(value, index)
        builder.store(place.pointer, offset_of(index, place.strides), element)
    if looped and builder.has_loop:
        statistics.evaluator.forget_loop()
        builder.close_loop(COL.name, ())


def _passes(group: Group, statistics: Statistics) -> None:
    """One loop for all statistics that need no others, one for those that need these, and so on."""
    levels = _levels(group)
    for level in range(1, max(levels.values(), default=0) + 1):
        _one_pass(statistics, [key for key, at in levels.items() if at == level])


def _levels(group: Group) -> dict[tuple[Op, str], int]:
    """The pass in which each statistic is taken. Softmax takes its two in one pass."""
    depth: dict[Value, int] = {}
    levels: dict[tuple[Op, str], int] = {}
    for op in group.body.ops:
        at = max((depth.get(v, 0) for v in op.operands), default=0)
        if Trait.REDUCTION in spec_of(op).traits:
            online = "peak" in PARTS[op.name]
            for part in PARTS[op.name][: 1 if online else None]:
                at += 1
                levels[op, part] = at
        depth |= dict.fromkeys(op.results, at)
    return levels


def _one_pass(statistics: Statistics, keys: list[tuple[Op, str]]) -> None:
    builder = statistics.builder
    accumulators: list[Accumulator] = []
    taken: list[tuple[Op, str, str, tuple[Accumulator, ...]]] = []
    for op, part in keys:
        kind = "softmax" if part == "peak" else statistics.kind_of(op, part)
        x = statistics.part_operand(op, part, statistics.row_element(op))
        x = statistics.masked("peak" if kind == "softmax" else kind, x)
        own = _accumulators(builder, kind, x.dtype)
        builder.add(Accumulate(kind, tuple(a.value for a in own), x))
        accumulators += own
        taken.append((op, part, kind, own))
    statistics.evaluator.forget_loop()
    builder.close_loop(COL.name, accumulators)
    for op, part, kind, own in taken:
        if kind == "softmax":
            _finish_softmax(statistics, op, own)
        else:
            combined = statistics.combined(kind, own[0].value)
            statistics.known[op, part] = statistics.finished(op, part, combined)


def _accumulators(builder: Builder, kind: str, dtype: str) -> tuple[Accumulator, ...]:
    if kind == "softmax":
        return (
            Accumulator(builder.accumulator("peak", dtype), neutral("peak", dtype)),
            Accumulator(builder.accumulator("total", dtype), neutral("sum", dtype)),
        )
    return (Accumulator(builder.accumulator(kind, dtype), neutral(kind, dtype)),)


def _finish_softmax(statistics: Statistics, op: Op, own: tuple[Accumulator, ...]) -> None:
    """The row's maximum, and the lanes' sums brought to it: sum_l total_l exp(peak_l - peak)."""
    builder = statistics.builder
    peaks, totals = (a.value for a in own)
    dtype = peaks.dtype
    peak = builder.reduce("peak", peaks, COL.name)
    lower = builder.compute("tensor.sub", dtype, (peaks, peak))
    scale = builder.compute("tensor.exp", dtype, (lower,))
    empty = builder.compute("tensor.eq", "bool", (totals, Constant(0.0, dtype)))
    scaled = builder.compute("tensor.mul", dtype, (totals, scale))
    kept = builder.compute("tensor.where", dtype, (empty, totals, scaled))
    statistics.known[op, "peak"] = peak
    statistics.known[op, "total"] = builder.reduce("sum", kept, COL.name)
