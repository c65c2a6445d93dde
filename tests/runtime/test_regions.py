"""CPU regions: call by call, and compiled by Inductor."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from effcomp.errors import FallbackWarning
from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    BufferArg,
    CallPlace,
    ConstArg,
    InputPlace,
    ListArg,
    OutputPlace,
    Plan,
    RegionKernel,
    RunRegion,
    SizeArg,
    TagArg,
    TensorSpec,
)
from effcomp.runtime import load, regions
from effcomp.runtime.region_compiler import RegionSource
from tests.runtime.plans import aten, buffer, plan, port, region_plan

CPU = torch.device("cpu")


def shaped_plan() -> Plan:
    """One region that reads sizes: x reshaped to (s0 * 2, s1 // 2), plus a column of ones."""
    shape = ListArg((SizeArg("s0 * 2"), SizeArg("s1 // 2")))
    region = RegionKernel(
        function="reshape_add",
        calls=(
            AtenCall("aten.reshape.default", (BufferArg(0), shape), (1,)),
            AtenCall(
                "aten.full.default",
                (ListArg((SizeArg("s0 * 2"), ConstArg(1))), ConstArg(1)),
                (2,),
                (("dtype", TagArg("dtype", "f32")), ("device", TagArg("device", "plan"))),
            ),
            aten("add.Tensor", 1, 2, to=[3]),
            aten("exp.default", 3, to=[4]),
        ),
        inputs=1,
        outputs=(4,),
        digest="reshape-add",
    )
    return plan(
        ports=[port("x", "s0", "s1")],
        symbols=[("s0", 0, 0), ("s1", 0, 1)],
        buffers=[
            buffer(InputPlace(0), "s0", "s1"),
            buffer(OutputPlace(), "s0 * 2", "s1 // 2"),
        ],
        kernels=[region],
        steps=[RunRegion("reshape-add", (0,), (1,))],
        outputs=[1],
    )


@pytest.mark.parametrize("place", [OutputPlace(), ArenaPlace(0, 0), CallPlace(0)])
def test_call_by_call(place) -> None:
    run = load(region_plan(first=place), CPU, regions="never")
    w = torch.randn(8)
    for rows in (3, 5, 0):
        x = torch.randn(rows, 8)
        big, sums = run([x, w])
        want = torch.relu(x * w) + 1
        torch.testing.assert_close(big, want)
        torch.testing.assert_close(sums, want.sum(-1))
    assert run.notes == ()


def test_a_region_never_hands_on_what_it_read() -> None:
    same = plan(
        ports=[port("x", 4)],
        buffers=[buffer(InputPlace(0), 4), buffer(OutputPlace(), 4), buffer(OutputPlace(), 4)],
        kernels=[RegionKernel("view", (aten("view_as.default", 0, 0, to=[1]),), 1, (1, 1), "d")],
        steps=[RunRegion("d", (0,), (1, 2))],
        outputs=[1, 2],
    )
    x = torch.ones(4)
    a, b = load(same, CPU)([x])
    a.add_(1)
    b.add_(2)
    assert (x.tolist(), a.tolist(), b.tolist()) == ([1] * 4, [2] * 4, [3] * 4)


def test_small_regions_are_not_compiled(monkeypatch) -> None:
    monkeypatch.setattr(regions, "compile_region", lambda *_: pytest.fail("compiled"))
    run = load(region_plan(), CPU, regions="auto")
    run([torch.randn(3, 8), torch.randn(8)])
    assert run.notes == (
        "1 of 1 regions run call by call: their tensors are too small for compiling them to pay",
    )


def test_large_regions_are_compiled(monkeypatch) -> None:
    asked = []

    def refuse(source, hints, threads):
        asked.append((source.kernel.function, hints))
        raise RuntimeError("no C++ compiler here")

    monkeypatch.setattr(regions, "compile_region", refuse)
    monkeypatch.setattr(regions, "_FAILED", {})
    run = load(region_plan(), CPU, regions="auto")
    x, w = torch.randn(100_000, 8), torch.randn(8)
    with pytest.warns(FallbackWarning, match="mul_relu_add.*no C\\+\\+ compiler"):
        big, _ = run([x, w])
    torch.testing.assert_close(big, torch.relu(x * w) + 1)
    assert asked == [("mul_relu_add", (("s0", 100_000),))]
    assert run.compile_seconds > 0
    assert "Inductor failed with RuntimeError: no C++ compiler here" in run.notes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run([torch.randn(200_000, 8), w])
    assert len(asked) == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", [OutputPlace(), ArenaPlace(0, 0), CallPlace(0)])
def test_compiled(place) -> None:
    run = load(region_plan(first=place), CPU, regions="always")
    w = torch.randn(8)
    for rows in (3, 5, 64, 1, 0):
        x = torch.randn(rows, 8)
        big, sums = run([x, w])
        want = torch.relu(x * w) + 1
        torch.testing.assert_close(big, want)
        torch.testing.assert_close(sums, want.sum(-1))
    assert run.notes == ("region mul_relu_add runs call by call where a size is 0 or 1 (x2)",)
    source = next(iter(run._machine.regions._sources.values()))
    assert len(regions._COMPILED[source]) == 1, "a changed size compiles nothing"


@pytest.mark.slow
def test_compiled_sizes_and_outputs_in_place() -> None:
    run = load(shaped_plan(), CPU, regions="always")
    for shape in ((3, 4), (5, 6)):
        x = torch.randn(shape)
        (out,) = run([x])
        torch.testing.assert_close(out, (x.reshape(shape[0] * 2, -1) + 1).exp())
    assert run.notes == ()


def test_which_regions_write_into_given_memory() -> None:
    spec = TensorSpec("f32", ("s0", 8), (8, 1))
    added = aten("add.Tensor", 0, 1, to=[2])
    joined = AtenCall(
        "aten.cat.default", (ListArg((BufferArg(0), BufferArg(1))), ConstArg(0)), (3,)
    )
    summed = aten("sum.default", 2, to=[4])
    read = aten("exp.default", 3, to=[5])

    def writes(*calls: AtenCall, outputs: tuple[int, ...]) -> bool:
        kernel = RegionKernel("r", calls, 2, outputs, "r")
        return RegionSource(kernel, (spec, spec), (spec,) * len(outputs)).writes

    assert writes(added, outputs=(2,))
    assert writes(added, summed, outputs=(4,))
    assert not writes(added, summed, outputs=(2, 4))
    assert not writes(joined, outputs=(3,))
    assert writes(joined, read, outputs=(5,))


class Foreign(TorchDispatchMode):
    """A caller's dispatch mode that no compiler can work under."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(isinstance(arg, FakeTensor) for arg in args):
            raise RuntimeError("a compiler's tensor in a caller's mode")
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_regions_compile_outside_a_callers_dispatch_modes() -> None:
    run = load(shaped_plan(), CPU, regions="always")
    x = torch.randn(6, 10)
    with Foreign():
        (out,) = run([x])
    torch.testing.assert_close(out, (x.reshape(12, 5) + 1).exp())
    assert run.notes == ()
