"""The examples and the demo run, and find what eager finds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(tmp_path: Path, script: str, *arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, f"examples/{script}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EFFCOMP_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
def test_a_diffusion_transformer(tmp_path: Path) -> None:
    shown = _run(tmp_path, "diffusion_transformer.py")
    found = re.findall(r"largest difference (\S+), (\d) compiled", shown)
    assert [int(count) for _, count in found] == [1, 2, 2]
    assert all(float(apart) < 1e-4 for apart, _ in found), shown


@pytest.mark.slow
def test_a_causal_language_model(tmp_path: Path) -> None:
    shown = _run(tmp_path, "causal_lm.py", "--tokens", "8")
    assert "8 of 8 tokens equal eager's" in shown


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = _run(tmp_path, "demo.py", "--steps", "2", "--text", "A", "--out", str(out))
    assert "effcomp to eager: largest difference" in shown
    assert "The 8 kinds of step that move most" in shown
    pictures = sorted(path.name for path in out.iterdir())
    assert pictures == ["eager.png", "effcomp.png", "side-by-side.png"]


def test_examples_are_short() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        if path.name != "demo.py":
            assert path.read_text().count("\n") < 100, f"{path.name} is long for an example"
