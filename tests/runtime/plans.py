"""Plans written by hand for the runtime's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    Buffer,
    BufferArg,
    CallStep,
    ConstArg,
    Expr,
    InputPlace,
    KernelParam,
    Launch,
    OutputPlace,
    OutputRef,
    Plan,
    Port,
    RegionKernel,
    RunRegion,
    SizeArg,
    SymbolSource,
    TensorSpec,
    TritonKernel,
)


def spec(*shape: Expr, dtype: str = "f32", strides: Sequence[Expr] | None = None) -> TensorSpec:
    """A tensor's spec, row-major unless strides are given."""
    if strides is None:
        strides, step = [], "1"
        for size in reversed(shape):
            strides.insert(0, step)
            step = f"{step} * ({size})"
    return TensorSpec(dtype, tuple(shape), tuple(strides))


def port(name: str, *shape: Expr, **options: Any) -> Port:
    flags = {k: options.pop(k) for k in ("weight", "mutated") if k in options}
    return Port(name, spec(*shape, **options), **flags)


def buffer(place: Any, *shape: Expr, name: str = "", **options: Any) -> Buffer:
    return Buffer(spec(*shape, **options), place, name)


def arg(value: Any) -> Any:
    """Ints are buffer ids, strings sizes, `None`, bools and floats constants."""
    if isinstance(value, bool | float) or value is None:
        return ConstArg(value)
    if isinstance(value, int):
        return BufferArg(value)
    return SizeArg(value) if isinstance(value, str) else value


def aten(target: str, *args: Any, to: Sequence[int | None] = (), **kwargs: Any) -> AtenCall:
    named = tuple((name, arg(value)) for name, value in kwargs.items())
    return AtenCall(f"aten.{target}", tuple(map(arg, args)), tuple(to), named)


def call(target: str, *args: Any, to: Sequence[int | None], out: str = "", **kw: Any) -> CallStep:
    return CallStep(aten(target, *args, to=to, **kw), out, label=target)


def plan(
    *,
    ports: Sequence[Port],
    buffers: Sequence[Buffer],
    steps: Sequence[Any],
    outputs: Sequence[int | OutputRef],
    symbols: Sequence[tuple[str, int, int]] = (),
    kernels: Sequence[Any] = (),
    target: str = "cpu",
    **rest: Any,
) -> Plan:
    return Plan(
        name=rest.pop("name", "test"),
        target=target,
        ports=tuple(ports),
        symbols=tuple(SymbolSource(*s) for s in symbols),
        buffers=tuple(buffers),
        kernels=tuple(kernels),
        steps=tuple(steps),
        outputs=tuple(o if isinstance(o, OutputRef) else OutputRef(buffer=o) for o in outputs),
        **rest,
    )


ADD = """
import triton
import triton.language as tl


@triton.jit
def add(a_ptr, b_ptr, out_ptr, n, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = index < n
    a = tl.load(a_ptr + index, mask=mask)
    b = tl.load(b_ptr + index, mask=mask)
    tl.store(out_ptr + index, a + b, mask=mask)
"""

ROW_SUM = """
import triton
import triton.language as tl


@triton.jit
def row_softmax(x_ptr, out_ptr, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    index = tl.arange(0, BLOCK)
    mask = index < columns
    x = tl.load(x_ptr + row * columns + index, mask=mask, other=-float("inf"))
    e = tl.exp(x - tl.max(x, axis=0))
    tl.store(out_ptr + row * columns + index, e / tl.sum(e, axis=0), mask=mask)
"""


def add_kernel(dtype: str = "f32", block: int = 32) -> TritonKernel:
    pointer = f"*{dtype}"
    return TritonKernel(
        function="add",
        source=ADD,
        params=(
            KernelParam("a_ptr", pointer),
            KernelParam("b_ptr", pointer),
            KernelParam("out_ptr", pointer),
            KernelParam("n", "i32"),
            KernelParam("BLOCK", "constexpr"),
        ),
        constants=(("BLOCK", block),),
        digest=f"add-{dtype}-{block}",
    )


def softmax_kernel() -> TritonKernel:
    return TritonKernel(
        function="row_softmax",
        source=ROW_SUM,
        params=(
            KernelParam("x_ptr", "*f32"),
            KernelParam("out_ptr", "*f32"),
            KernelParam("columns", "i32"),
            KernelParam("BLOCK", "constexpr"),
        ),
        constants=(("BLOCK", 16),),
        digest="row-softmax",
    )


def add_launch(a: int, b: int, out: int, n: Expr, kernel: TritonKernel) -> Launch:
    block = dict(kernel.constants)["BLOCK"]
    blocks: Expr = f"({n} + {block} - 1) // {block}"
    args = (BufferArg(a), BufferArg(b), BufferArg(out), SizeArg(n))
    return Launch(kernel.digest, args, (blocks, 1, 1), label="add")


def add_plan(target: str = "cuda:90", dtype: str = "f32") -> Plan:
    """(x + y) + y for vectors of s0, by two launches of a kernel through the arena."""
    kernel = add_kernel(dtype)
    return plan(
        name="add_twice",
        target=target,
        ports=[port("x", "s0", dtype=dtype), port("y", "s0", dtype=dtype)],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0", dtype=dtype),
            buffer(InputPlace(1), "s0", dtype=dtype),
            buffer(ArenaPlace(0, 1), "s0", dtype=dtype, name="sum"),
            buffer(OutputPlace(), "s0", dtype=dtype, name="result"),
        ],
        kernels=[kernel],
        steps=[add_launch(0, 1, 2, "s0", kernel), add_launch(2, 1, 3, "s0", kernel)],
        outputs=[3],
    )


def region_plan(rows: Expr = "s0", **places: Any) -> Plan:
    """relu(x * w) + 1 and its row sums, as one region."""
    region = RegionKernel(
        function="mul_relu_add",
        calls=(
            aten("mul.Tensor", 0, 1, to=[2]),
            aten("relu.default", 2, to=[3]),
            aten("add.Tensor", 3, 1.0, to=[4]),
            AtenCall("aten.sum.dim_IntList", (BufferArg(4), _dims(-1)), (5,)),
        ),
        inputs=2,
        outputs=(4, 5),
        digest="mul-relu-add",
    )
    symbolic = isinstance(rows, str)
    return plan(
        name="region",
        ports=[port("x", rows, 8), port("w", 8, weight=True)],
        symbols=[("s0", 0, 0)] if symbolic else [],
        buffers=[
            buffer(InputPlace(0), rows, 8),
            buffer(InputPlace(1), 8),
            buffer(places.get("first", OutputPlace()), rows, 8),
            buffer(places.get("second", OutputPlace()), rows),
        ],
        kernels=[region],
        steps=[RunRegion("mul-relu-add", (0, 1), (2, 3))],
        outputs=[2, 3],
    )


def _dims(*dims: int) -> Any:
    from effcomp.plan.schema import ListArg

    return ListArg(tuple(ConstArg(d) for d in dims))
