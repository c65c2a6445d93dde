"""The example plugin: short, installable, and its own tests pass where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"


def test_it_is_short() -> None:
    lines = sum(p.read_text().count("\n") for p in (PLUGIN / "effcomp_geglu").rglob("*.py"))
    assert lines < 120


SAVE = """
import torch, effcomp as ec
from test_geglu import FeedForward

torch.manual_seed(0)
model, x = FeedForward().eval(), torch.randn(5, 8)
compiled = ec.compile(model, (x,), targets=("cuda:90", "cpu"))
assert any("geglu_kernel" == k.function for k in compiled.plans["cuda:90"].kernels)
compiled.save("m.eff")
torch.save((x, model(x).detach()), "expected.pt")
"""
LOAD = """
import sys, torch, effcomp as ec

x, expected = torch.load("expected.pt")
torch.testing.assert_close(ec.load("m.eff")(x), expected)
assert not {"effcomp_geglu", "effcomp.plugins"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_it_installs_and_its_tests_pass(tmp_path: Path) -> None:
    source, site = tmp_path / "plugin", tmp_path / "site"
    shutil.copytree(PLUGIN, source)
    _python(
        tmp_path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-build-isolation", "--no-index", "--target", str(site), str(source),
    )  # fmt: skip
    _python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source / "tests"),
            path=[site])  # fmt: skip
    listing = "from effcomp.cli import app; app()"
    listed = _python(tmp_path, "-c", listing, "passes", "fuse-geglu", path=[site])
    assert "from: effcomp-geglu 0.1.0" in listed
    assert "runs: after cse" in listed
    doctor = _python(tmp_path, "-c", listing, "doctor", path=[site])
    assert "plugin effcomp-geglu 0.1.0 pass fuse-geglu, op geglu.gate" in " ".join(doctor.split())
    # What it gave to a saved model is in the model: nobody else needs the plugin.
    _python(tmp_path, "-c", SAVE, path=[site, source / "tests"])
    _python(tmp_path, "-c", LOAD)


def _python(folder: Path, *arguments: str, path: Sequence[Path] = ()) -> str:
    environment = {
        **{k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])),
        "EFFCOMP_CACHE_DIR": str(folder / "cache"),
    }
    run = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
