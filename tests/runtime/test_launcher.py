"""Triton's own launchers take what the runtime gives them. A fake driver stands in for the GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.runtime.plans import add_kernel

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a fake driver beside a real one")
def test_what_is_launched_arrives(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.runtime.launch_on_fake", str(tmp_path)],
        cwd=ROOT,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path / "triton")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    arrived = json.loads(run.stdout)
    given = arrived.pop("given")
    assert arrived == {
        "launches": 1,
        "function": 42,
        "stream": 7,
        "grid": [2, 3, 1],
        "threads": 32 * add_kernel().num_warps,
        "pointers": given,
        "n": 4,
    }
