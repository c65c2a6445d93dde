"""Artifacts on a GPU: kernels from the file, weights changed under recorded CUDA graphs."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import effcomp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.gpu

# Loads and runs where nothing can be compiled: neither Triton nor a C compiler is to be had.
RUN = """
import os, sys
sys.modules["triton"] = None
os.environ["PATH"] = os.environ["CC"] = ""
import torch
import effcomp
model = effcomp.load(sys.argv[1])
x = torch.load(sys.argv[2], weights_only=True)
torch.save(model(x).cpu(), sys.argv[3])
assert model.device.type == "cuda", model.device
assert not model.notes, model.notes
"""


class Block(nn.Module):
    """Linears of one input, an activation, a norm: a prologue, templates, row-wise kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.q, self.k, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.out(torch.nn.functional.gelu(self.q(y)) * self.k(y))


def block(seed: int) -> Block:
    torch.manual_seed(seed)
    return Block().cuda().bfloat16()


def inputs() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(32, 64, generator=random).cuda().bfloat16()


def close(found: torch.Tensor, model: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(found, model(inputs()), rtol=2e-2, atol=2e-2)


def test_an_artifact_runs_where_nothing_can_be_compiled(tmp_path: Path) -> None:
    effcomp.compile(block(0), (inputs(),), config={"cuda_graphs": "off"}).save(tmp_path / "m.eff")
    torch.save(inputs(), tmp_path / "x.pt")
    paths = [str(tmp_path / name) for name in ("m.eff", "x.pt", "y.pt")]
    run = subprocess.run(
        [sys.executable, "-c", RUN, *paths],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    close(torch.load(tmp_path / "y.pt", weights_only=True).cuda(), block(0))


def test_what_a_machine_without_a_gpu_compiles_runs(tmp_path: Path) -> None:
    """A plan captured on the CPU, its weights loaded to the GPU."""
    major, minor = torch.cuda.get_device_capability()
    target = f"cuda:{major}{minor}"
    model = block(0).cpu()
    effcomp.compile(model, (inputs().cpu(),), targets=[target, "cpu"]).save(tmp_path / "m.eff")
    close(effcomp.load(tmp_path / "m.eff")(inputs()), block(0))
    assert effcomp.load(tmp_path / "m.eff", "cpu").target == "cpu"


@pytest.mark.parametrize("graphs", ["on", "off"])
def test_weights_change_under_recorded_graphs(tmp_path: Path, graphs: str) -> None:
    effcomp.compile(block(0), (inputs(),), config={"cuda_graphs": graphs}).save(tmp_path / "m.eff")
    model = effcomp.load(tmp_path / "m.eff")
    for _ in range(3):
        close(model(inputs()), block(0))
    base = model(inputs()).clone()
    pair = {"q.lora_A.weight": torch.randn(4, 64) / 8, "q.lora_B.weight": torch.randn(64, 4) / 8}
    model.set_lora(pair, 0.5)
    merged: Any = block(0)
    with torch.no_grad():
        merged.q.weight += (0.5 * pair["q.lora_B.weight"] @ pair["q.lora_A.weight"]).cuda()
    close(model(inputs()), merged)
    model.set_lora(None)
    assert torch.equal(model(inputs()), base)
    model.load_weights(block(1).state_dict())
    close(model(inputs()), block(1))


def test_another_thread_may_call(tmp_path: Path) -> None:
    model = effcomp.compile(block(0), (inputs(),))
    found: list[torch.Tensor] = []
    x = inputs()
    thread = threading.Thread(target=lambda: found.append(model(x)))
    thread.start()
    thread.join()
    close(found[0], block(0))
