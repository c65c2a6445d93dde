"""Attention: the library's, or for few queries over many keys two kernels of our own."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from effcomp.codegen.draft import expr
from effcomp.codegen.layout import strides_of
from effcomp.codegen.library import library
from effcomp.codegen.lowering import Lowering
from effcomp.codegen.tile.group import power_at_least
from effcomp.codegen.triton.launch import POINTER_TYPES
from effcomp.codegen.triton.templates_text import functions_text
from effcomp.ir import Op, TensorType, Value, attr
from effcomp.plan.schema import BufferArg, KernelParam, Launch, TritonKernel
from effcomp.target import Target

MOST_ROWS = 64  # queries times the heads that share a key head: one block of a product
FEWEST_KEYS = 512  # with fewer, one program a head is quick enough
BLOCK_N = 64
LONGEST = 2**31  # elements that 32-bit positions reach
Strides = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Sizes of one attention of few queries; `span` keys go to each of `splits` programs."""

    batch: int
    key_heads: int
    group: int
    queries: int
    keys: int
    head: int
    span: int

    @property
    def splits(self) -> int:
        return -(-self.keys // self.span)

    @property
    def rows(self) -> int:
        return self.group * self.queries


def attention(low: Lowering, op: Op) -> None:
    """Split the keys among programs where the library would leave the device idle."""
    decode = decode_of(op, low.target)
    if decode is None:
        return library(low, op)
    draft = low.draft
    heads = decode.batch * decode.key_heads
    rows = (heads, decode.splits, decode.rows)
    part = Value(TensorType("f32", (*rows, decode.head)), "part")
    peak, total = (Value(TensorType("f32", rows), name) for name in ("peak", "total"))
    for value in (part, peak, total, op.result):
        draft.arena(value)
    made = _split_kernel(op, decode)
    read = (*op.operands, part, peak, total)
    _launch(low, made, read, (heads, decode.splits), op)
    made = _combine_kernel(op, decode)
    _launch(low, made, (part, peak, total, op.result), (heads, decode.rows), None)


def _launch(
    low: Lowering,
    kernel: TritonKernel,
    values: tuple[Value, ...],
    grid: tuple[int, int],
    op: Op | None,
) -> None:
    args = tuple(BufferArg(low.draft.buffer(v)) for v in values)
    digest = low.draft.add_kernel(kernel)
    x, y = map(expr, grid)
    low.draft.step(Launch(digest, args, (x, y, 1), kernel.function), op)


def decode_of(op: Op, target: Target) -> Decode | None:
    """The sizes, if the kernels cover this attention and have something to gain."""
    q, k, v, *masks = op.operands
    shapes = (q.shape, k.shape, v.shape, *(m.shape for m in masks))
    sizes = (size for shape in shapes for size in shape)
    if target.kind != "cuda" or q.tensor.rank != 4 or not all(isinstance(n, int) for n in sizes):
        return None
    if attr(op, "causal") or q.dtype not in ("bf16", "f16", "f32"):
        return None
    if any(m.dtype not in ("bool", "bf16", "f16", "f32") for m in masks):
        return None
    if any(max(strides_reach(value), 1) >= LONGEST for value in op.operands):
        return None
    batch, heads, queries, head = map(int, q.shape)  # pyright: ignore[reportArgumentType]
    key_heads, keys = int(k.shape[1]), int(k.shape[2])
    rows = heads // key_heads * queries
    fits = head in (16, 32, 64, 128, 256) and v.shape[-1] == head and rows <= MOST_ROWS
    if not fits or keys < FEWEST_KEYS or batch * key_heads > target.processors:
        return None
    programs = max(2 * target.processors // (batch * key_heads), 1)
    turns = -(-keys // BLOCK_N)
    span = BLOCK_N * -(-turns // min(programs, turns))
    return Decode(batch, key_heads, heads // key_heads, queries, keys, head, span)


def strides_reach(value: Value) -> int:
    """Elements from the first to the last; 2^31 where that is not known."""
    reach = 1
    for size, step in zip(value.shape, strides_of(value), strict=True):
        if not isinstance(size, int) or not isinstance(step, int):
            return LONGEST
        reach += (size - 1) * step
    return reach


def _split_kernel(op: Op, decode: Decode) -> TritonKernel:
    q, k, v, *masks = op.operands
    kind = "none" if not masks else "bool" if masks[0].dtype == "bool" else "float"
    names = ("q", "k", "v", *(["mask"] if masks else []), "part", "peak", "total")
    dtypes = (*(x.dtype for x in op.operands), "f32", "f32", "f32")
    arguments = {
        "SCALE": float(attr(op, "scale")),
        "KEY_HEADS": decode.key_heads,
        "GROUP": decode.group,
        "QUERIES": decode.queries,
        "KEYS": decode.keys,
        "HEAD": decode.head,
        "SPLITS": decode.splits,
        "SPAN": decode.span,
        "BLOCK_R": max(16, power_at_least(decode.rows)),
        "BLOCK_N": BLOCK_N,
        "PRECISION": "ieee" if q.dtype == "f32" else "tf32",
        "MASK": kind,
        "Q_STRIDES": strides_of(q),
        "K_STRIDES": strides_of(k),
        "V_STRIDES": strides_of(v),
        "MASK_STRIDES": _broadcast_strides(masks[0], q) if masks else (0, 0, 0, 0),
    }
    read = ("q", "k", "v", "mask" if masks else "q", "part", "peak", "total")
    narrow = q.dtype != "f32"
    stages = 3 if narrow and decode.head <= 128 else 2
    return _kernel("split", "attention_split", names, dtypes, read, arguments, op, stages)


def _combine_kernel(op: Op, decode: Decode) -> TritonKernel:
    names = ("part", "peak", "total", "out")
    arguments = {
        "KEY_HEADS": decode.key_heads,
        "GROUP": decode.group,
        "QUERIES": decode.queries,
        "HEAD": decode.head,
        "SPLITS": decode.splits,
        "BLOCK_S": power_at_least(decode.splits),
        "OUT_STRIDES": strides_of(op.result),
    }
    dtypes = ("f32", "f32", "f32", op.result.dtype)
    return _kernel("combine", "attention_combine", names, dtypes, names, arguments, op, 1)


def _broadcast_strides(mask: Value, q: Value) -> Strides:
    """Steps of a mask through [batch, heads, queries, keys]; 0 where it repeats."""
    missing = q.tensor.rank - mask.tensor.rank
    steps = zip(mask.shape, strides_of(mask), strict=True)
    return (*[0] * missing, *(0 if size == 1 else int(step) for size, step in steps))


def _kernel(
    template: str, name: str, names: tuple[str, ...], dtypes: tuple[str, ...],
    read: tuple[str, ...], arguments: Mapping[str, object], op: Op, stages: int,
) -> TritonKernel:  # fmt: skip
    """An entry that calls the template with everything but the pointers as constants."""
    name = f"{name}_kernel"
    functions = functions_text("decode_attention", [template])
    keywords = [f"        {key}={value!r}," for key, value in arguments.items()]
    entry = [
        "@triton.jit", f"def {name}({', '.join(names)}):", f"    {template}(",
        f"        {', '.join(read)},", *keywords, "    )",
    ]  # fmt: skip
    body = "\n\n\n".join(
        ["import triton\nimport triton.language as tl", *functions, "\n".join(entry)]
    )
    params = tuple(KernelParam(n, POINTER_TYPES[d]) for n, d in zip(names, dtypes, strict=True))
    digest = hashlib.sha256(repr((body, params, 4, stages)).encode()).hexdigest()[:32]
    source = f"# {op.loc}\n{body}\n" if op.loc else f"{body}\n"
    return TritonKernel(name, source, params, (), digest, num_warps=4, num_stages=stages)
