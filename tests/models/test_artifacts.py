"""Every model of the zoo as an artifact: the same outputs as eager, where no compiler can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import effcomp
from effcomp.ir import parse_graph, print_graph
from effcomp.plan.container import read_artifact
from effcomp.plan.text import print_plan
from tests.models.compiling import assert_agree, tensors
from tests.models.zoo import ZOO, Entry

ROOT = Path(__file__).parents[2]
SLOW = {"mamba", "unet", "vae"}
ENTRIES = [
    pytest.param(entry, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, entry in ZOO.items()
]

# The artifact runs in a process that has neither the compiler nor the models' libraries.
RUN = """
import json, sys

GONE = ("diffusers", "transformers", "effcomp.ahead", "effcomp.api", "effcomp.cache",
        "effcomp.capture", "effcomp.codegen", "effcomp.explanation", "effcomp.ir",
        "effcomp.passes", "effcomp.reference", "effcomp.rewrite")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == gone or name.startswith(gone + ".") for gone in GONE):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_flatten

import effcomp

folder = sys.argv[1]
model = effcomp.load(f"{folder}/model.eff")
leaves = load_file(f"{folder}/inputs.safetensors")
with open(f"{folder}/inputs.json") as file:
    kwargs = {k: leaves.get(k, v) for k, v in json.load(file).items()}
found, _ = tree_flatten(model(**kwargs))
tensors = [t for t in found if isinstance(t, torch.Tensor)]
save_file({str(i): t.contiguous() for i, t in enumerate(tensors)}, f"{folder}/out.safetensors")
assert "triton" not in sys.modules, "nothing of this needs Triton"
"""


def compiled(entry: Entry, path: Path) -> dict[str, Any]:
    inputs = entry.inputs()
    effcomp.compile(entry.build(), (), inputs, config={"regions": "never"}).save(path)
    return inputs


@pytest.mark.parametrize("entry", ENTRIES)
def test_round_trip(entry: Entry, tmp_path: Path) -> None:
    path = tmp_path / "model.eff"
    inputs = compiled(entry, path)
    with torch.no_grad():
        expected = tensors(entry, entry.build()(**inputs))
    found = effcomp.load(path)(**inputs)
    assert_agree(_comparable(entry, found), expected, torch.float32)
    for _, text in read_artifact(path).stages["cpu"]:
        assert print_graph(parse_graph(text)) == text


def test_an_artifact_keeps_the_order_of_its_arena(tmp_path: Path) -> None:
    path = tmp_path / "model.eff"
    compiled(ZOO["sd3"], path)
    model = effcomp.load(path)
    assert model.plans["cpu"].arena_order
    assert model.plans == read_artifact(path).plans
    assert "arena places %" in print_plan(model.plans["cpu"])


def test_a_cache_is_the_artifacts_own(tmp_path: Path) -> None:
    """A decoding step advances the cache that came with the artifact, and no other."""
    entry, path = ZOO["llama_decode"], tmp_path / "model.eff"
    inputs = compiled(entry, path)
    eager, loaded, again = entry.build(), effcomp.load(path), effcomp.load(path)
    for _ in range(3):
        with torch.no_grad():
            expected = tensors(entry, eager(**inputs))
        assert_agree(_comparable(entry, loaded(**inputs)), expected, torch.float32)
    first = tensors(entry, entry.build()(**inputs))
    assert_agree(_comparable(entry, again(**inputs)), first, torch.float32)


@pytest.mark.parametrize("name", ["flux", "llama"])
def test_it_runs_without_the_compiler(name: str, tmp_path: Path) -> None:
    entry = ZOO[name]
    inputs = compiled(entry, tmp_path / "model.eff")
    given = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    rest = {k: None if k in given else v for k, v in inputs.items()}
    save_file({k: v.contiguous() for k, v in given.items()}, tmp_path / "inputs.safetensors")
    (tmp_path / "inputs.json").write_text(json.dumps(rest))
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    from safetensors.torch import load_file

    with torch.no_grad():
        expected = tensors(entry, entry.build()(**inputs))
    found = load_file(tmp_path / "out.safetensors")
    assert_agree([found[str(i)] for i in range(len(expected))], expected, torch.float32)


def _comparable(entry: Entry, found: Any) -> tuple[torch.Tensor, ...]:
    """Outputs of the libraries' classes come back as dicts of their fields."""
    if isinstance(found, dict):
        found = _Fields(found)
    return tensors(entry, found)


class _Fields(dict[str, Any]):
    """A dict whose items are attributes and positions too, as in the libraries' outputs."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, key: Any) -> Any:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_sizes_may_change(name: str, tmp_path: Path) -> None:
    """One artifact for every batch and length, which are the same symbols in all arguments."""
    entry = ZOO[name]
    inputs = entry.inputs()
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    shapes = {k: free if isinstance(v, torch.Tensor) else None for k, v in inputs.items()}
    model = entry.build()
    effcomp.compile(model, (), inputs, dynamic_shapes=shapes).save(tmp_path / "model.eff")
    loaded = effcomp.load(tmp_path / "model.eff")
    for batch, size in ((2, "default"), (3, "changed")):
        given = entry.inputs(batch=batch, size=size)
        with torch.no_grad():
            expected = tensors(entry, model(**given))
        assert_agree(_comparable(entry, loaded(**given)), expected, torch.float32)
