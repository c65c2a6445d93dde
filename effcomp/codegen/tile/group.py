"""What the two kinds of loop groups share: parameters, names, index width, program counts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effcomp.codegen.tile.build import Uncovered
from effcomp.codegen.tile.evaluate import Memory, computed_as, row_major
from effcomp.codegen.tile.index import expr
from effcomp.codegen.tile.ir import Pointer, TileKernel
from effcomp.ir import Dim, Graph, Op, Value
from effcomp.ir.dims import dim, floor_div, product
from effcomp.ir.types import ITEMSIZE
from effcomp.target import Target

MAX_NARROW = 2**31 - 2**20  # positions past the end of a block stay within 32 bits too

# What an operand is called in the kernel after the first op that reads it there.
_ROLES: Mapping[tuple[str, int], str] = {
    ("nn.layer_norm", 1): "weight", ("nn.layer_norm", 2): "bias", ("nn.rms_norm", 1): "weight",
    ("nn.linear", 1): "weight", ("nn.linear", 2): "bias", ("nn.embedding", 0): "table",
    ("nn.embedding", 1): "ids", ("tensor.gather", 1): "index", ("tensor.take", 1): "index",
    ("tensor.where", 0): "condition",
}  # fmt: skip
_SILENT = frozenset(
    {
        "tensor.reshape", "tensor.broadcast", "tensor.slice", "tensor.convert", "tensor.constant",
        "tensor.full", "tensor.dim", "tensor.copy", "tensor.iota", "tensor.permute",
    }
)  # fmt: skip
NAMED_OPS = 6


@dataclass(frozen=True, slots=True)
class Group:
    """A group with its params placed in memory: operands first, results after."""

    op: Op
    body: Graph
    memory: Mapping[Value, Memory]  # by body param
    results: tuple[Memory, ...]
    wide: bool

    @property
    def pointers(self) -> tuple[Pointer, ...]:
        read = (self.memory[p].pointer for p in self.body.params)
        return (*read, *(r.pointer for r in self.results))


@dataclass(frozen=True, slots=True)
class TiledGroup:
    """A tile kernel, what its pointers point to, and how many programs it takes."""

    kernel: TileKernel
    values: tuple[Value, ...]
    programs: Dim


def group_of(op: Op) -> Group:
    """Name and place the params of a group. Raises Uncovered where a dtype has no kernel."""
    assert op.body is not None, f"{op.name} has no body"
    body = op.body
    for value in (*body.params, *body.outputs):
        computed_as(value.dtype)
    names = _pointer_names(body)
    memory = {
        p: Memory(Pointer(names[p], p.dtype), row_major(given))
        for p, given in zip(body.params, op.operands, strict=True)
    }
    outs = len(op.results)
    results = tuple(
        Memory(Pointer("out" if outs == 1 else f"out{i}", r.dtype, True), row_major(r))
        for i, r in enumerate(op.results)
    )
    wide = not all(map(_is_narrow, (*op.operands, *op.results)))
    return Group(op, body, memory, results, wide)


def _pointer_names(body: Graph) -> dict[Value, str]:
    wanted: dict[Value, str] = {}
    for op in body.ops:
        for i, v in enumerate(op.operands):
            if role := _ROLES.get((op.name, i)):
                wanted.setdefault(v, role)
    single = sum(p not in wanted for p in body.params) == 1
    names: dict[Value, str] = {}
    for i, p in enumerate(body.params):
        name = wanted.get(p, "x" if single else f"x{i}")
        names[p] = f"{name}{i}" if name in names.values() else name
    return names


def _is_narrow(value: Value) -> bool:
    """Whether 32-bit positions reach every element."""
    reach = 1
    for size, stride in zip(value.shape, row_major(value), strict=True):
        if not isinstance(size, int) or not isinstance(stride, int):
            return False
        reach += max(size - 1, 0) * stride
    return max(reach, math.prod(int(s) for s in value.shape)) < MAX_NARROW


def kernel_name(op: Op) -> str:
    """Named after the ops it fuses: rms_norm_mul_add."""
    assert op.body is not None, f"{op.name} has no body"
    names = [o.name for o in op.body.ops if o.name not in _SILENT]
    if not names:
        names = [o.name for o in op.body.ops if o.name != "tensor.constant"] or ["tensor.copy"]
    words: list[str] = []
    for name in names:
        word = name.rpartition(".")[2]
        if not words or words[-1] != word:
            words.append(word)
    if len(words) > NAMED_OPS:
        words = [*words[: NAMED_OPS - 1], "and", str(len(words) - NAMED_OPS + 1), "more"]
    return f"{'_'.join(words)}_kernel"


def source_lines(op: Op) -> tuple[str, ...]:
    """The model source lines that the group computes, in program order."""
    assert op.body is not None, f"{op.name} has no body"
    found = dict.fromkeys(o.loc for o in (*op.body.ops, op) if o.loc)
    return tuple(found)


def ceil_div(a: Dim, b: int) -> Dim:
    return -(-a // b) if isinstance(a, int) else floor_div(dim(a + b - 1), b)


def occupying(block: int, total: Dim, target: Target, least: int) -> int:
    """A block halved, down to `least`, until all processors have programs to run beside others."""
    if isinstance(total, int):
        while block > least and ceil_div(total, block) < 2 * target.processors:
            block //= 2
    return block


def power_at_least(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def bytes_per_element(group: Group, shape: Sequence[Dim]) -> int:
    """Bytes moved for one element of the domain, tensors much smaller than it left out."""
    total = product(shape)
    values = (*group.op.operands, *group.op.results)
    dense = (v for v in values if _comparable(v.tensor.numel, total))
    return max(sum(ITEMSIZE[v.dtype] for v in dense), 1)


def _comparable(a: Any, b: Any) -> bool:
    ratio = expr(a) / expr(b)  # of nothing at all no real number
    return bool(ratio.is_number and ratio.is_real and 2 * ratio >= 1)


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Uncovered(reason)
