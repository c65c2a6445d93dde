"""Plans compute what their graphs mean, on both kinds of target."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcomp.plan.schema import CallStep
from tests.codegen.agree import agree

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
