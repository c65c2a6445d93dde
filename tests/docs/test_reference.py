"""The generated reference is what its generator writes, and says something about everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from effcomp.ir import SPECS
from effcomp.passes import PASSES

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date() -> None:
    command = [sys.executable, "docs/generate_reference.py", "--check"]
    environment = {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{run.stdout}{run.stderr}run: python docs/generate_reference.py"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_op_says_what_it_is(name: str) -> None:
    assert SPECS[name].doc, f"{name}: its docstring becomes the reference"


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_pass_says_what_it_does(name: str) -> None:
    one = PASSES[name]
    assert one.name == name
    assert one.__module__.split(".")[2] == name.replace("-", "_")
    assert len((one.__doc__ or "").strip()) > 10
    assert one.__doc__ is not None
    assert not one.__doc__.startswith(f"{one.__name__}("), f"{name}: only dataclass's own docstring"
