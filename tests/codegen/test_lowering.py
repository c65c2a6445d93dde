"""Plans compute what their graphs mean, on both kinds of target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.ir import parse_graph
from effcomp.plan.schema import CallStep
from effcomp.reference import region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from tests.codegen.agree import agree, compare

GRAPHS = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("graphs/*"))}


@pytest.mark.parametrize("name", GRAPHS)
def test_cpu_plans_agree_with_the_oracle(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not agree(GRAPHS[name], "cpu", monkeypatch).notes


@pytest.mark.parametrize("name", GRAPHS)
def test_cuda_plans_agree_with_the_oracle(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not agree(GRAPHS[name], "cuda:90", monkeypatch).notes


@pytest.mark.parametrize("name", GRAPHS)
def test_refused_groups_run_as_library_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = agree(GRAPHS[name], "cuda:90", monkeypatch, refuses=lambda op: True)
    assert all(isinstance(step, CallStep) for step in plan.steps)
    groups = GRAPHS[name].count("fused.")
    assert not groups or any("runs as library calls" in note for note in plan.notes)


@pytest.mark.parametrize("name", GRAPHS)
def test_cuda_plans_run_with_real_kernels(name: str) -> None:
    """Triton's interpreter runs the kernels; what has none yet runs as library calls."""
    graph = parse_graph(GRAPHS[name])
    plan = lower_graph(graph, TARGETS["cuda:90"], region_of=region_of)
    executable = load(plan, torch.device("cpu"), regions="never", cuda_graphs="off")
    compare(graph, {"s0": 3, "s1": 5}, lambda args: executable(list(args)))
