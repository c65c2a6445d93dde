"""Triton kernels: interpreted on a CPU, compiled for GPUs that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from effcomp.errors import KernelError, PlanError
from effcomp.plan.schema import (
    BufferArg,
    InputPlace,
    KernelParam,
    Launch,
    OutputPlace,
    SizeArg,
    TritonKernel,
    ViewPlace,
)
from effcomp.runtime import load
from effcomp.runtime.divisibility import divisor
from effcomp.runtime.program import analyze
from tests.runtime.plans import (
    add_kernel,
    add_launch,
    add_plan,
    buffer,
    plan,
    port,
    softmax_kernel,
)

pytest.importorskip("triton")

CPU = torch.device("cpu")


def softmax_plan():
    kernel = softmax_kernel()
    args = (BufferArg(0), BufferArg(1), SizeArg("s1"))
    return plan(
        target="cuda:90",
        ports=[port("x", "s0", "s1")],
        symbols=[("s0", 0, 0), ("s1", 0, 1)],
        buffers=[buffer(InputPlace(0), "s0", "s1"), buffer(OutputPlace(), "s0", "s1")],
        kernels=[kernel],
        steps=[Launch(kernel.digest, args, ("s0", 1, 1))],
        outputs=[1],
    )


def test_interpreted_kernels() -> None:
    run = load(add_plan(), CPU)
    for size in (100, 7, 0):
        x, y = torch.randn(size), torch.randn(size)
        torch.testing.assert_close(run([x, y])[0], x + y + y)
    assert run.notes == ("kernels run in Triton's interpreter: right numbers, no speed",)


def test_device_functions_of_triton_run_interpreted_without_an_environment_variable() -> None:
    x = torch.randn(3, 11)
    torch.testing.assert_close(load(softmax_plan(), CPU)([x])[0], x.softmax(-1))


def test_interpreting_leaves_the_compiler_working() -> None:
    from effcomp.runtime.specialize import Specialized
    from effcomp.runtime.triton_compile import compile_kernel

    x = torch.randn(3, 11)
    load(softmax_plan(), CPU)([x])
    compiled = compile_kernel(Specialized(softmax_kernel(), (0, 1)), 90)
    assert ".entry row_softmax" in compiled.asm["ptx"]
    torch.testing.assert_close(load(softmax_plan(), CPU)([x])[0], x.softmax(-1))


def test_interpreting_with_tritons_own_switch() -> None:
    code = (
        "import torch; from tests.runtime.test_kernels import softmax_plan, load, CPU;"
        "x = torch.randn(3, 11);"
        "torch.testing.assert_close(load(softmax_plan(), CPU)([x])[0], x.softmax(-1))"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "TRITON_INTERPRET": "1"}
    )


def test_bfloat16_is_refused_by_the_interpreter() -> None:
    with pytest.raises(KernelError, match=r"kernel add takes bfloat16 \(a_ptr, b_ptr, out_ptr\)"):
        load(add_plan(dtype="bf16"), CPU)


def test_launches_are_checked() -> None:
    kernel = add_kernel()
    step = Launch(kernel.digest, (BufferArg(0),), (1, 1, 1))
    parts = {
        "ports": [port("x", 4)],
        "buffers": [buffer(InputPlace(0), 4)],
        "outputs": [0],
        "kernels": [kernel],
        "target": "cuda:90",
    }
    with pytest.raises(PlanError, match="add takes 4 arguments, a launch gives 1"):
        load(plan(steps=[step], **parts), CPU)
    with pytest.raises(PlanError, match="runs kernel 'nowhere'"):
        load(plan(steps=[Launch("nowhere", (), (1, 1, 1))], **parts), CPU)


def broken_kernel(body: str) -> TritonKernel:
    source = (
        "import triton\nimport triton.language as tl\n\n\n"
        f"@triton.jit\ndef broken(x_ptr):\n    {body}\n"
    )
    return TritonKernel("broken", source, (KernelParam("x_ptr", "*f32"),), (), f"broken-{body}")


def test_failing_kernels_name_their_source() -> None:
    from effcomp.runtime.specialize import Specialized
    from effcomp.runtime.triton_compile import compile_kernel

    kernel = broken_kernel("tl.store(x_ptr, undefined)")
    with pytest.raises(KernelError, match=r"kernel broken \(.*broken_.*\.py\) does not compile"):
        compile_kernel(Specialized(kernel, ()), 90)
    failing = plan(
        target="cuda:90",
        ports=[port("x", 4)],
        buffers=[buffer(InputPlace(0), 4)],
        kernels=[kernel],
        steps=[Launch(kernel.digest, (BufferArg(0),), (1, 1, 1))],
        outputs=[0],
    )
    with pytest.raises(KernelError, match=r"kernel broken \(.*\) failed in Triton's interpreter"):
        load(failing, CPU)([torch.ones(4)])
    kernel = TritonKernel("absent", "x = 1", (), (), "absent")
    with pytest.raises(KernelError, match="the source of kernel absent"):
        compile_kernel(Specialized(kernel, ()), 90)


def test_views_reach_kernels_with_their_offset() -> None:
    kernel = add_kernel()
    halves = plan(
        target="cuda:90",
        ports=[port("x", 8)],
        buffers=[
            buffer(InputPlace(0), 8),
            buffer(ViewPlace(0, 4), 4),
            buffer(OutputPlace(), 4),
        ],
        kernels=[kernel],
        steps=[add_launch(0, 1, 2, 4, kernel)],
        outputs=[2],
    )
    x = torch.randn(8)
    torch.testing.assert_close(load(halves, CPU)([x])[0], x[:4] + x[4:])


@pytest.mark.parametrize(
    ("offset", "size", "divisible"),
    [(4, "s0", (0, 1, 2)), (3, "s0 * 16", (0, 2, 3)), ("s0", 32, (0, 2, 3))],
)
def test_what_is_provably_divisible(offset, size, divisible) -> None:
    from effcomp.runtime.specialize import specialize

    kernel = add_kernel()
    step = add_launch(0, 1, 2, size, kernel)
    views = plan(
        target="cuda:90",
        ports=[port("x", "s0")],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0"),
            buffer(ViewPlace(0, offset), size),
            buffer(OutputPlace(), size),
        ],
        kernels=[kernel],
        steps=[step],
        outputs=[2],
    )
    program = analyze(views)
    assert specialize(program, step, kernel).divisible == divisible
    assert program.aligned == {0}


@pytest.mark.parametrize(
    ("expr", "least"),
    [
        (48, 48),
        ("s0", 1),
        ("16*s0", 16),
        ("s0*16 + 32", 16),
        ("s0*16 - 8", 8),
        ("(s0*64) // 4", 16),
        ("(s0*8) // 16", 1),
        ("max(16*s0, 32)", 16),
        ("-(4*s0)", 4),
        ("(4*s0)**2", 16),
        ("(32*s0) % 48", 16),
    ],
)
def test_divisors_hold(expr, least) -> None:
    from effcomp.plan.expressions import evaluate

    found = divisor(expr)
    assert found == least
    assert all(evaluate(expr, {"s0": n}) % found == 0 for n in range(1, 50))


def test_equal_kernels_are_cached_on_disk(tmp_path, monkeypatch) -> None:
    from effcomp.runtime.specialize import Specialized
    from effcomp.runtime.triton_compile import compile_kernel, is_cached
    from effcomp.runtime.workers import run_in_workers

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = [Specialized(add_kernel(block=block), (0, 1, 2)) for block in (64, 128)]
    assert not any(is_cached(kernel, 90) for kernel in kernels)
    done: list[int] = []
    tasks = [(kernel, 90) for kernel in kernels]
    run_in_workers("effcomp.runtime.triton_compile:compile_kernel", tasks, lambda: done.append(1))
    if not done:
        pytest.skip("one core: there are no workers")
    assert all(is_cached(kernel, 90) for kernel in kernels)
    assert not is_cached(Specialized(add_kernel(block=64), ()), 90)
    compile_kernel(kernels[0], 90)


@pytest.mark.gpu
def test_compiled_kernels() -> None:
    cuda = torch.device("cuda")
    for dtype in ("f32", "bf16"):
        run = load(add_plan(dtype=dtype), cuda, cuda_graphs="off")
        kind = torch.float32 if dtype == "f32" else torch.bfloat16
        for size in (1000, 17):
            x = torch.randn(size, device=cuda, dtype=kind)
            y = torch.randn(size + 1, device=cuda, dtype=kind)[1:]
            torch.testing.assert_close(run([x, y])[0], x + y + y)
    assert any("not aligned" in note for note in run.notes)


@pytest.mark.gpu
def test_launches_follow_the_callers_stream() -> None:
    cuda = torch.device("cuda")
    run = load(add_plan(), cuda, cuda_graphs="off")
    x = torch.randn(1 << 20, device=cuda)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(20):
        with torch.cuda.stream(stream):
            (a,) = run([x, x])
        (b,) = run([x, x])
        torch.cuda.synchronize()
        torch.testing.assert_close(a, x * 3)
        torch.testing.assert_close(b, x * 3)
