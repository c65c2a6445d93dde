"""Kernels on a GPU: every pattern and every elementwise op, in the dtypes the interpreter lacks."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.ir import Graph
from effcomp.plan.schema import CallStep, Launch, Plan, TritonKernel
from effcomp.reference import evaluate, region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from effcomp.testing.inputs import random_arguments
from tests.codegen import test_attention as attention
from tests.codegen.triton.patterns import PATTERNS
from tests.codegen.triton.running import DTYPES, group_graph
from tests.codegen.triton.test_elementwise import (
    BINARY,
    EDGES,
    UNARY,
    dtypes_of,
    fits,
    result_of,
)

pytestmark = pytest.mark.gpu
FLOATS = ("f32", "bf16", "f16")
SIZES = {"s0": 333, "s1": 777}
# Of the largest element, against float32: the rounding of what is stored, and of the sums.
ERRORS = {"f32": 2e-5, "bf16": 1e-2, "f16": 2e-3}

CLOSE = {"f32": (2e-5, 1e-6), "f16": (4e-3, 1e-4)}  # relative, absolute; integers are exact


@functools.cache
def plan_of(name: str, dtype: str) -> tuple[Graph, Plan]:
    graph = PATTERNS[name](dtype)
    plan = lower_graph(graph, TARGETS["cuda:90"], region_of=region_of)
    assert [step.kind for step in plan.steps] == ["launch"], plan.notes
    return graph, plan


@pytest.fixture(scope="module", autouse=True)
def _compiled_beside_each_other() -> None:
    """Compile the kernels of all tests here in one go, on all cores."""
    from effcomp.runtime.program import analyze
    from effcomp.runtime.specialize import specialize
    from effcomp.runtime.workers import run_in_workers

    major, minor = torch.cuda.get_device_capability()
    tasks: list[tuple[object, int]] = []
    for name, dtype in itertools.product(PATTERNS, FLOATS):
        _, plan = plan_of(name, dtype)
        (step,), (kernel,) = plan.steps, plan.kernels
        assert isinstance(step, Launch)
        assert isinstance(kernel, TritonKernel)
        tasks.append((specialize(analyze(plan), step, kernel), major * 10 + minor))
    run_in_workers("effcomp.runtime.triton_compile:compile_kernel", tasks)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str, dtype: str) -> None:
    graph, plan = plan_of(name, dtype)
    args = [on_gpu(a) for a in random_arguments(graph, SIZES)]
    wide = [a.float() if a.is_floating_point() else a for a in args]
    found = load(plan, torch.device("cuda"), cuda_graphs="off")(list(args))
    expected = evaluate(PATTERNS[name]("f32"), wide)
    for index, (mine, truth) in enumerate(zip(found, expected, strict=True)):
        if mine.is_floating_point():
            largest = float(truth.abs().max())
            error = float((mine.float() - truth).abs().max()) / largest
            assert error <= ERRORS[dtype], f"result {index}: {error:.1e} of {largest:.1e}"
        else:
            assert torch.equal(mine, truth), f"result {index}"


def on_gpu(value: torch.Tensor | int) -> torch.Tensor:
    assert isinstance(value, torch.Tensor), "the patterns take tensors"
    strides = value.stride()
    return torch.empty_strided(value.shape, strides, dtype=value.dtype, device="cuda").copy_(value)


@pytest.mark.parametrize("dtype", ["f32", "f16", "i32"])
@pytest.mark.parametrize("operands", [1, 2])
def test_elementwise_ops(operands: int, dtype: str) -> None:
    """One kernel of all ops, at edge values, against torch's own kernels."""
    names = [n for n in (UNARY, BINARY)[operands - 1] if dtype in dtypes_of(n)]
    edges = [1, 2, 3, 7, 30] if dtype == "i32" else EDGES
    places = list(itertools.product(edges, repeat=operands))
    args = [torch.tensor(c, device="cuda").to(DTYPES[dtype]) for c in zip(*places, strict=True)]
    graph = all_of(names, dtype, len(places), operands)
    plan = lower_graph(graph, TARGETS["cuda:90"], region_of=region_of)
    assert not any(isinstance(step, CallStep) for step in plan.steps), plan.notes
    found = load(plan, torch.device("cuda"), cuda_graphs="off")(list(args))
    wrong: list[str] = []
    for name, mine, truth in zip(names, found, evaluate(graph, args), strict=True):
        defined = [at for at, place in enumerate(places) if is_defined(name, dtype, place)]
        close = torch.isclose(
            mine[defined], truth[defined], *CLOSE.get(dtype, (0, 0)), equal_nan=True
        )
        if not close.all():
            at = defined[int((~close).int().argmax())]
            wrong.append(f"{name}{places[at]} = {mine[at].item()}, torch: {truth[at].item()}")
    assert not wrong, "\n".join(wrong)


def all_of(names: list[str], dtype: str, size: int, operands: int) -> Graph:
    """A group whose results are each of these ops of the same operands."""
    given = ", ".join(f"%x{i}" for i in range(operands))
    lines = [f"%r{i} = {n}({given}) : {result_of(n, dtype)}[{size}]" for i, n in enumerate(names)]
    returned = ", ".join(f"%r{i}" for i in range(len(names)))
    params = ", ".join(f"%x{i}: {dtype}[{size}]" for i in range(operands))
    return group_graph("pointwise", params, "\n".join([*lines, f"return {returned}"]))


def is_defined(name: str, dtype: str, place: tuple[float, ...]) -> bool:
    if len(place) == 2:
        return fits(name, dtype, *place)
    return name != "nn.gelu" or abs(place[0]) != float("inf")  # NaN in torch


@pytest.mark.parametrize("mask", attention.MASKS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_of_few_queries(dtype: str, mask: str) -> None:
    queries, keys = 3, 4099
    made, exact = (
        attention.graph(d, queries, keys, mask=mask.format(t=d, m=queries, n=keys))
        for d in (dtype, "f32")
    )
    plan = lower_graph(made, TARGETS["cuda:90"], region_of=region_of)
    assert attention.is_ours(plan)
    args = [on_gpu(a) for a in random_arguments(made, SIZES)]
    (found,) = load(plan, torch.device("cuda"), cuda_graphs="off")(list(args))
    (truth,) = evaluate(exact, [a.float() if a.is_floating_point() else a for a in args])
    error = float((found.float() - truth).abs().max()) / float(truth.abs().max())
    assert error <= ERRORS[dtype], f"{error:.1e} of the largest"


def test_exp_is_accurate_wherever_it_is_finite() -> None:
    """Times of a diffusion model are multiplied by exponentials: errors in them become angles."""
    x = torch.linspace(-103.0, 88.7, 1 << 16, device="cuda")
    graph = all_of(["tensor.exp"], "f32", x.numel(), 1)
    plan = lower_graph(graph, TARGETS["cuda:90"], region_of=region_of)
    (found,) = load(plan, torch.device("cuda"), cuda_graphs="off")([x])
    truth = x.double().exp()
    error = ((found.double() - truth).abs() / truth.clamp_min(2.0**-126)).max()
    assert error <= 2.0**-22
