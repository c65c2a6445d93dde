"""Low-rank adapters: the same as a model with them merged, and gone without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import effcomp
from effcomp.errors import ArtifactError
from tests.ahead.test_weights import X, run, small

RANK = 2
SHAPES = {"q": ((RANK, 8), (8, RANK)), "conv": ((RANK, 1, 1, 1), (2, RANK, 1, 1))}


def adapter(
    seed: int, modules: tuple[str, ...] = ("q", "conv")
) -> dict[str, tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(SHAPES[name][0], generator=random),
            torch.randn(SHAPES[name][1], generator=random),
        )
        for name in modules
    }


def merged(pairs: dict[str, tuple[Tensor, Tensor]], factor: float) -> nn.Module:
    model = small(0)
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            weight = model.get_submodule(name).weight
            weight += factor * (b.flatten(1) @ a.flatten(1)).view(weight.shape)
    return model


SPELLINGS = {
    "peft": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "peft named": ("base_model.model.{}.lora_A.x.weight", "base_model.model.{}.lora_B.x.weight"),
    "diffusers": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight"),
    "diffusers old": ("unet.{}_lora.down.weight", "unet.{}_lora.up.weight"),
    "kohya": ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight"),
}  # fmt: skip


def spelled(
    pairs: dict[str, tuple[Tensor, Tensor]], spelling: str = "diffusers"
) -> dict[str, Tensor]:
    down, up = SPELLINGS[spelling]
    return {
        key.format(name): tensor
        for name, pair in pairs.items()
        for key, tensor in zip((down, up), pair, strict=True)
    }


@pytest.fixture
def compiled() -> effcomp.CompiledModel:
    return effcomp.compile(small(0), (X,))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_adapter_is_as_if_merged(compiled: effcomp.CompiledModel, spelling: str) -> None:
    pairs = adapter(1)
    compiled.set_lora(spelled(pairs, spelling), 0.5)
    torch.testing.assert_close(compiled(X), run(merged(pairs, 0.5)))


def test_equal_to_a_fresh_compilation(tmp_path: Path) -> None:
    pairs = adapter(1)
    compiled = effcomp.compile(small(0), (X,))
    compiled.save(tmp_path / "small.eff")
    loaded = effcomp.load(tmp_path / "small.eff")
    fresh = effcomp.compile(merged(pairs, 0.5), (X,))
    for model in (compiled, loaded):
        base = model(X)
        model.set_lora(spelled(pairs), 0.5)
        assert torch.equal(model(X), fresh(X))
        model.set_lora(None)
        assert torch.equal(model(X), base)


def test_one_adapter_after_another(compiled: effcomp.CompiledModel) -> None:
    base = compiled(X)
    for seed, modules in ((1, ("q", "conv")), (2, ("conv",)), (3, ("q",))):
        pairs = adapter(seed, modules)
        compiled.set_lora(spelled(pairs))
        torch.testing.assert_close(compiled(X), run(merged(pairs, 1.0)))
    compiled.set_lora(None)
    assert torch.equal(compiled(X), base)
    compiled.set_lora(None)


def test_the_module_keeps_its_weights() -> None:
    model = small(0)
    compiled = effcomp.compile(model, (X,))
    compiled.set_lora(spelled(adapter(1)))
    assert torch.equal(model.q.weight, small(0).q.weight)


def test_alpha(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    pairs = adapter(1)
    with_alpha = {**spelled(pairs, "kohya"), "lora_unet_q.alpha": torch.tensor(1.0)}
    compiled.set_lora(with_alpha)
    expected = merged({"q": pairs["q"]}, 1 / RANK)
    with torch.no_grad():
        expected.conv.weight.copy_(merged({"conv": pairs["conv"]}, 1.0).conv.weight)
    torch.testing.assert_close(compiled(X), run(expected))
    save_file(spelled(pairs, "peft"), tmp_path / "adapter_model.safetensors")
    settings = {"lora_alpha": 6, "r": RANK, "alpha_pattern": {"conv": 1}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    expected = merged({"q": pairs["q"]}, 6 / RANK)
    with torch.no_grad():
        expected.conv.weight.copy_(merged({"conv": pairs["conv"]}, 1 / RANK).conv.weight)
    for source in (tmp_path, tmp_path / "adapter_model.safetensors"):
        compiled.set_lora(source)
        torch.testing.assert_close(compiled(X), run(expected))


def test_alpha_in_a_files_header(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    """diffusers keeps PEFT's configuration there, and nothing of it among the tensors."""
    pairs = adapter(1)
    settings = {"transformer.lora_alpha": 8, "transformer.r": RANK, "transformer.use_rslora": True}
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(spelled(pairs), path, {"lora_adapter_metadata": json.dumps(settings)})
    compiled.set_lora(path, 0.5)
    torch.testing.assert_close(compiled(X), run(merged(pairs, 0.5 * 8 / RANK**0.5)))
    settings["transformer.use_dora"] = True
    save_file(spelled(pairs), path, {"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(ArtifactError, match="is a DoRA"):
        compiled.set_lora(path)


def test_what_does_not_fit_is_refused(compiled: effcomp.CompiledModel) -> None:
    base = compiled(X)
    pairs = adapter(1)
    whole = spelled(pairs)
    cases = {
        "names what this model has not: transformer.v": {
            **whole,
            "transformer.v.lora_A.weight": pairs["q"][0],
            "transformer.v.lora_B.weight": pairs["q"][1],
        },
        "names what this model has not: q.lora_magnitude_vector": {
            **whole,
            "q.lora_magnitude_vector": torch.ones(8),
        },
        "only one half": {"transformer.q.lora_A.weight": pairs["q"][0]},
        r"pair for q.weight is \[2, 7\] and \[8, 2\]": {
            **whole,
            "transformer.q.lora_A.weight": torch.ones(2, 7),
        },
        "the adapter is empty": {},
    }
    for why, given in cases.items():
        with pytest.raises(ArtifactError, match=why):
            compiled.set_lora(given)
    assert torch.equal(compiled(X), base)
