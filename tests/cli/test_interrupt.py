"""An interrupt ends a command with 130 and one word, and leaves nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from effcomp.cli import console, tensor_files
from tests.cli.calling import ROOT, call

SLOW = """\
import time
from torch import nn

def make():
    print("loading", flush=True)
    time.sleep(60)
    return nn.Linear(2, 2)
"""


def test_a_signal_ends_a_command(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    # A shell that runs tests in the background makes everything below it ignore this signal.
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heeded + "from effcomp.cli import app; app(['compile', 'slow.py:make', '-o', 'm.eff'])"
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert running.stderr.readline() == "loading\n"
    running.send_signal(signal.SIGINT)
    _, messages = running.communicate(timeout=30)
    assert (running.returncode, messages) == (130, "interrupted\n")
    assert not (tmp_path / "m.eff").exists()


def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, out = tmp_path / "graph.ir", tmp_path / "out.ir"
    graph.write_text("graph @f(%x: f32[2]) {\n  return %x\n}\n")
    out.write_text("what was there")

    def interrupted(path: Path, text: str, **_: str) -> None:
        with open(path, "w") as file:
            file.write(text[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(console.Path, "write_text", interrupted)
        called = call("opt", graph, "-o", out, "--json")
    assert called.code == 130
    assert out.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.ir", "out.ir"]


def test_interrupted_tensors_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def interrupted(_: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tensor_files.write_tensors(tmp_path / "x.safetensors", {"x": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []
