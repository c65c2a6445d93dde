"""Tile `fused.matmul`: a template's block of the product, then the epilogue in registers."""

from dataclasses import dataclass
from typing import Any

import sympy

from effcomp.codegen.tile.build import Builder, Uncovered
from effcomp.codegen.tile.evaluate import Evaluator
from effcomp.codegen.tile.group import (
    Group,
    TiledGroup,
    ceil_div,
    group_of,
    kernel_name,
    source_lines,
)
from effcomp.codegen.tile.index import Index, expr, flatten, offset_of, unflatten
from effcomp.codegen.tile.ir import Axis, Operand, Side, TileKernel
from effcomp.codegen.tile.prune import prune
from effcomp.ir import Dim, Op, Value
from effcomp.ir.dims import product, same, same_shape
from effcomp.ir.types import ITEMSIZE
from effcomp.target import Target

GROUP_ROWS = 8  # blocks of rows that are computed together, for L2
BATCH, M, N = (sympy.Symbol(n, integer=True, nonnegative=True) for n in ("batch", "m", "n"))


@dataclass(frozen=True, slots=True)
class Config:
    """Block sizes and options of one product kernel; one row alone is `m` = 1."""

    m: int
    n: int
    k: int
    num_warps: int
    num_stages: int


# Largest first: a block is taken if enough of them occupy the device and fit its shared memory.
_SHORT = (
    Config(128, 256, 64, 8, 3), Config(128, 128, 64, 8, 4), Config(128, 64, 64, 4, 4),
    Config(64, 64, 64, 4, 4), Config(64, 32, 64, 4, 5),
)  # fmt: skip
_FULL = (Config(64, 64, 32, 4, 3), Config(32, 64, 32, 4, 3), Config(32, 32, 32, 4, 3))
_FEW_ROWS = (Config(16, 128, 128, 4, 4), Config(16, 64, 128, 4, 4), Config(16, 32, 256, 4, 4))
# One row: eight 16-byte loads a thread in flight, and registers for five programs a processor.
_ONE_ROW = (Config(1, 8, 1024, 4, 2), Config(1, 4, 1024, 4, 2), Config(1, 2, 1024, 4, 2))


@dataclass(frozen=True, slots=True)
class Problem:
    """One product and its sizes."""

    op: Op
    batches: tuple[Dim, ...]  # batch dims, none for a linear
    rows: Dim
    columns: Dim
    depth: Dim

    @property
    def index(self) -> Index:
        """The element of the result at (BATCH, M, N)."""
        shape = self.op.result.shape
        if self.op.name == "nn.linear":
            return (*unflatten(M, shape[:-1]), N)
        return (*unflatten(BATCH, self.batches), M, N)


def tile_matmul(op: Op, target: Target) -> TiledGroup:
    """Tile a product with its epilogue. Raises Uncovered where the generator does not cover it."""
    group = group_of(op)
    problem = _problem(group)
    config = _config_for(problem, target)
    batch = product(problem.batches)
    axes = [Axis(N, problem.columns, config.n)]
    if problem.rows != 1:
        axes.insert(0, Axis(M, problem.rows, config.m))
    if batch != 1:
        axes.insert(0, Axis(BATCH, batch, 1))
    builder = Builder(axes, wide=group.wide)
    _epilogue(group, problem, builder, config)
    grouped = GROUP_ROWS if problem.rows != 1 else 0
    kernel = TileKernel(
        kernel_name(op), group.pointers, tuple(axes), prune(builder.body), group.wide,
        config.num_warps, config.num_stages, source_lines(op), grouped,
    )  # fmt: skip
    programs = product(ceil_div(a.extent, a.block) for a in axes)
    return TiledGroup(kernel, (*op.operands, *op.results), programs)


def _problem(group: Group) -> Problem:
    op = group.body.ops[0]
    if op.name not in ("nn.linear", "tensor.matmul"):
        raise Uncovered(f"a product group begins with {op.name}")
    if any(v not in group.memory for v in op.operands):
        raise Uncovered("a product's operands are not the group's")
    a, b = op.operands[:2]
    if a.dtype not in ("bf16", "f16", "f32"):
        raise Uncovered(f"products of {a.dtype} are left to the library")
    if op.name == "nn.linear":
        return Problem(op, (), product(a.shape[:-1]), b.shape[0], a.shape[-1])
    return Problem(op, a.shape[:-2], a.shape[-2], b.shape[-1], a.shape[-1])


def _config_for(problem: Problem, target: Target) -> Config:
    rows, size = problem.rows, ITEMSIZE[problem.op.operands[0].dtype]
    if rows == 1:
        candidates = _ONE_ROW
    elif isinstance(rows, int) and rows <= 16:
        candidates = _FEW_ROWS
    else:
        candidates = _SHORT if size == 2 else _FULL
    fitting = [
        c for c in candidates
        if c.m == 1 or (c.m + c.n) * c.k * size * c.num_stages <= target.shared_memory
    ]  # fmt: skip
    for config in fitting:
        if _programs(problem, config) >= target.processors:
            return config
    return fitting[-1]


def _programs(problem: Problem, config: Config) -> int:
    """How many programs a configuration takes; symbolic sizes count as large."""
    sizes = (problem.rows, problem.columns, product(problem.batches))
    m, n, batch = (s if isinstance(s, int) else 4096 for s in sizes)
    return -(-m // config.m) * -(-n // config.n) * batch


def _epilogue(group: Group, problem: Problem, builder: Builder, config: Config) -> None:
    index = tuple(map(builder.simplify, problem.index))
    block = _product(group, problem, builder, config)

    def element(at: Index) -> Operand:
        shape = problem.op.result.shape
        if builder.simplify(flatten(at, shape)) != builder.simplify(flatten(index, shape)):
            raise Uncovered("the epilogue reads another element of the product")
        return block

    known = {problem.op.result: element}
    evaluator = Evaluator(group.body, builder, group.memory, known=known)
    if len(problem.op.operands) > 2:
        bias = evaluator.at(problem.op.operands[2], index[-1:])
        block = builder.compute("tensor.add", "f32", (block, bias))
    for value, place in zip(group.body.outputs, group.results, strict=True):
        at = _output_index(value, index, problem)
        result = evaluator.at(value, at)
        builder.store(place.pointer, offset_of(at, place.strides), result)


def _output_index(value: Value, index: Index, problem: Problem) -> Index:
    shape = problem.op.result.shape
    if same_shape(value.shape, shape):
        return index
    if same(value.tensor.numel, product(shape)):
        return unflatten(flatten(index, shape), value.shape)
    raise Uncovered(f"an output {value.type} has not the product's elements")


def _product(group: Group, problem: Problem, builder: Builder, config: Config) -> Operand:
    a, b = problem.op.operands[:2]
    a_strides, b_strides = group.memory[a].strides, group.memory[b].strides
    index = problem.index
    a_offset = offset_of(index[:-1], a_strides[:-1])
    if problem.op.name == "nn.linear":
        b_offset: Any = N * expr(b_strides[0])
        b_step = b_strides[1]
    else:
        b_offset = offset_of((*index[:-2], N), (*b_strides[:-2], b_strides[-1]))
        b_step = b_strides[-2]
    template = "matmul_block" if problem.rows != 1 else "matvec_block"
    a_found = builder.simplify(a_offset)
    if template == "matmul_block":
        a_found = _along(a_found, M)
    b_found = _along(builder.simplify(b_offset), N)
    sides = (
        Side(group.memory[a].pointer, a_found, a_strides[-1], builder.edges(("m",))),
        Side(group.memory[b].pointer, b_found, b_step, builder.edges(("n",))),
    )
    return builder.product(template, sides, problem.depth, config.k, _precision(a.dtype))


def _along(offset: Any, axis: Any) -> Any:
    """An offset that varies along `axis`: the templates want a block of pointers there."""
    if axis not in getattr(offset, "free_symbols", ()):
        raise Uncovered(f"an operand of the product has one element along {axis}")
    return offset


def _precision(dtype: str) -> str:
    return "ieee" if dtype == "f32" else "tf32"
