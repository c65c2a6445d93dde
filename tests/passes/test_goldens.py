"""Every golden: the program after, its refusals, twice is once, and names that agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcomp.ir import print_graph
from effcomp.passes import PASSES
from effcomp.testing import GoldenCase, assert_golden, golden_cases

ROOT = Path(__file__).parent
CASES = golden_cases(ROOT)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_golden(case: GoldenCase, request: pytest.FixtureRequest) -> None:
    assert_golden(case, update=request.config.getoption("--update-golden"))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_twice_is_once(case: GoldenCase) -> None:
    once = case.run().graph
    again = case.run(once).graph
    assert print_graph(again) == print_graph(once)


def test_goldens_stand_in_folders_named_as_their_pass() -> None:
    folders = {
        path.name for path in Path(ROOT).iterdir() if path.is_dir() and any(path.glob("*.eff"))
    }
    assert folders <= {name.replace("-", "_") for name in PASSES}
