"""Lowers a graph, runs the plan, and compares with the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.dtypes import DTYPES
from effcomp.ir import Graph, Level, Op, SizeType, parse_graph, print_dim, verify
from effcomp.plan.expressions import evaluate as evaluate_expr
from effcomp.plan.schema import Launch, Plan
from effcomp.plan.serialize import dump_plan, load_plan
from effcomp.reference import evaluate, region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from tests.codegen.kernels import FakeEmitter
from tests.codegen.simulate import simulate


def lower(
    text: str | Graph,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    refuses: Callable[[Op], bool] = lambda op: False,
) -> tuple[Graph, Plan, FakeEmitter]:
    graph = parse_graph(text) if isinstance(text, str) else text
    verify(graph, Level.KERNEL)
    emitter = FakeEmitter(refuses)
    monkeypatch.setattr("effcomp.codegen.groups.emit_group", emitter)
    plan = lower_graph(graph, TARGETS[target], region_of=region_of)
    again = lower_graph(graph, TARGETS[target], region_of=region_of)
    assert dump_plan(plan) == dump_plan(again), "two lowerings differ"
    assert load_plan(dump_plan(plan)) == plan
    return graph, plan, emitter


def agree(
    text: str | Graph,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    refuses: Callable[[Op], bool] = lambda op: False,
    sizes: Mapping[str, int] | None = None,
) -> Plan:
    """Lower, run, compare outputs and what was written into arguments; returns the plan.

    The plan runs in the simulator, and in the real runtime where it holds no stand-in kernels.
    """
    graph, plan, emitter = lower(text, target, monkeypatch, refuses)
    sizes = sizes or {"s0": 3, "s1": 5}
    compare(graph, sizes, lambda args: simulate(plan, args, emitter.kernels))
    if not any(isinstance(step, Launch) for step in plan.steps):
        executable = load(plan, torch.device("cpu"), regions="never")
        compare(graph, sizes, lambda args: executable(list(args)))
    return plan


def compare(graph: Graph, sizes: Mapping[str, int], run: Callable[[list[Any]], list[Any]]) -> None:
    """Run a plan on random arguments, and compare with the oracle."""
    args = arguments(graph, sizes)
    theirs = copy.deepcopy(args)
    expected = evaluate(graph, theirs)
    found = run(args)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        check(a, b, f"output {i}")
        if isinstance(a, torch.Tensor) and (layout := graph.layout_of_output(i)) is not None:
            wanted = [evaluate_expr(_text(d), sizes) for d in layout]
            assert list(a.stride()) == wanted, f"layout of output {i}"
    for i, (a, b) in enumerate(zip(args, theirs, strict=True)):
        check(a, b, f"argument {i} afterwards")


def check(found: Any, expected: Any, what: str) -> None:
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(
            found, expected, rtol=1e-5, atol=1e-5, equal_nan=False, msg=lambda m: f"{what}: {m}"
        )
    else:
        assert found == expected, what


def arguments(graph: Graph, sizes: Mapping[str, int]) -> list[Any]:
    """Random arguments in the layouts that the params state; integers are small indices."""
    torch.manual_seed(0)
    args: list[Any] = []
    for param in graph.params:
        if isinstance(param.type, SizeType):
            args.append(evaluate_expr(_text(param.type.expr), sizes))
            continue
        shape = [evaluate_expr(_text(d), sizes) for d in param.shape]
        args.append(_random(shape, DTYPES[param.dtype]))
        if param.strides is not None:
            strides = [evaluate_expr(_text(d), sizes) for d in param.strides]
            placed = torch.empty_strided(shape, strides, dtype=args[-1].dtype)
            args[-1] = placed.copy_(args[-1])
    return args


def _random(shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.bool:
        return torch.rand(shape) > 0.5
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, dtype=dtype)
    return torch.randint(0, 2, shape, dtype=dtype)


def _text(size: Any) -> int | str:
    return size if isinstance(size, int) else print_dim(size)
