"""Every golden: the program after, its refusals, twice is once, and names that agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcomp.ir import print_graph, verify
from effcomp.passes import PASSES
from tests.passes.goldens import NEXT, ROOT, Case, cases

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_golden(case: Case, request: pytest.FixtureRequest) -> None:
    run = case.run()
    verify(run.graph)
    refusals = [r.reason for stage in run.stages for r in stage.refusals]
    if wanted := case.header("refuses"):
        assert wanted in refusals
    if request.config.getoption("--update-golden"):
        texts = case.path.read_text().split(NEXT)
        texts[case.index] = case.with_after(run.graph)
        case.path.write_text(NEXT.join(texts))
        return
    assert print_graph(run.graph) == case.after


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_twice_is_once(case: Case) -> None:
    once = case.run().graph
    again = case.run(once).graph
    assert print_graph(again) == print_graph(once)


def test_goldens_stand_in_folders_named_as_their_pass() -> None:
    folders = {
        path.name for path in Path(ROOT).iterdir() if path.is_dir() and any(path.glob("*.eff"))
    }
    assert folders <= {name.replace("-", "_") for name in PASSES}
