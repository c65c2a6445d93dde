"""The tour runs, and shows what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = (
    "refused: weight f32[8] is not a matrix",
    "refusals: FoldFactor refused: the factor is 2.0",
    "forget broke the program",
    "= nn.rms_norm(",
    "fused.",
    "@triton.jit",
    "9 rows: largest difference",
    "0 graph break(s)",
)


def test_the_tour_runs(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "docs/tour.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EFFCOMP_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    missing = [text for text in SHOWN if text not in run.stdout]
    assert not missing, run.stdout
