"""Weights: replaced, left in files of their own, given when loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import effcomp
from effcomp.errors import ArtifactError, DeviceError
from tests.ahead.models import Counting, compile_counting, counting_inputs


class Small(nn.Module):
    """Two linears of one input, which are joined in the prologue, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.conv = nn.Conv2d(1, 2, 1)
        self.register_buffer("scale", torch.full((8,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.q(x), self.k(x)], -1) * self.scale.repeat(2)
        return self.conv(y[:, None, None]).flatten(1)


X = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))


def small(seed: int) -> Small:
    torch.manual_seed(seed)
    return Small()


def run(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(X)


@pytest.fixture
def compiled() -> effcomp.CompiledModel:
    return effcomp.compile(small(0), (X,))


def test_a_state_dict_is_taken(compiled: effcomp.CompiledModel) -> None:
    torch.testing.assert_close(compiled(X), run(small(0)))
    for seed in (1, 2):
        compiled.load_weights(small(seed).state_dict())
        torch.testing.assert_close(compiled(X), run(small(seed)))


def test_the_module_keeps_its_weights(compiled: effcomp.CompiledModel) -> None:
    model = small(0)
    other = effcomp.compile(model, (X,))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    other.load_weights(small(1).state_dict())
    other.load_weights(small(2).state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_files_are_taken(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    state = small(3).state_dict()
    names = sorted(state)
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for part, file in zip((names[:2], names[2:]), files, strict=True):
        save_file({name: state[name] for name in part}, file)
    for source in (files, tmp_path):
        compiled.load_weights(small(1).state_dict())
        compiled.load_weights(source)
        torch.testing.assert_close(compiled(X), run(small(3)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="there is no safetensors file in"):
        compiled.load_weights(tmp_path / "empty")
    with pytest.raises(ArtifactError, match=r"is in another of the files as well"):
        compiled.load_weights([*files, files[0]])


def test_nothing_is_overwritten_unless_everything_fits(compiled: effcomp.CompiledModel) -> None:
    expected = compiled(X)
    state = small(1).state_dict()
    del state["k.weight"]
    state["q.bias"] = torch.ones(9)
    state["q.weight"] = state["q.weight"].double()
    state["other"] = torch.ones(1)
    with pytest.raises(ArtifactError) as caught:
        compiled.load_weights(state)
    assert str(caught.value) == (
        "these are not the model's weights; missing: k.weight; unexpected: other; wrong: "
        "q.weight (f64[8, 8] instead of f32[8, 8]), q.bias (f32[9] instead of f32[8])"
    )
    assert torch.equal(compiled(X), expected)


def test_tied_weights_are_one() -> None:
    compiled = compile_counting(Counting())
    x, more = counting_inputs()
    other = Counting()
    state = other.state_dict()
    compiled.load_weights({k: v for k, v in state.items() if k != "second.weight"})
    with torch.no_grad():
        expected = other(x, False, more=more, times=5)["y"]
    torch.testing.assert_close(compiled(x, more=more)["y"], expected)
    state["second.weight"] = state["second.weight"] + 1
    with pytest.raises(ArtifactError, match=r"second.weight \(not equal to first.weight"):
        compiled.load_weights(state)


def test_weights_stay_in_their_files(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    file, path = tmp_path / "model.safetensors", tmp_path / "small.eff"
    save_file(small(0).state_dict(), file)
    with pytest.raises(ArtifactError, match="which safetensors files"):
        compiled.save(path, weights="reference")
    compiled.save(path, weights="reference", files=[file])
    assert b"weights.safetensors" not in path.read_bytes()
    moved = tmp_path / "moved"
    tmp_path.joinpath("moved").mkdir()
    for one in (file, path):
        one.rename(moved / one.name)
    loaded = effcomp.load(moved / "small.eff")
    torch.testing.assert_close(loaded(X), run(small(0)))
    loaded.save(moved / "again.eff", weights="reference")
    torch.testing.assert_close(effcomp.load(moved / "again.eff")(X), run(small(0)))


def test_files_have_to_be_the_ones(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    file, path = tmp_path / "model.safetensors", tmp_path / "small.eff"
    save_file(small(1).state_dict(), file)
    with pytest.raises(ArtifactError, match=r"do not hold, as the model has them: conv\.bias"):
        compiled.save(path, weights="reference", files=[file])
    save_file(small(0).state_dict(), file)
    compiled.save(path, weights="reference", files=[file])
    save_file({**small(0).state_dict(), "more": torch.ones(1)}, file)
    with pytest.raises(ArtifactError, match="is not the file that"):
        effcomp.load(path)
    file.unlink()
    with pytest.raises(ArtifactError, match="which is not there"):
        effcomp.load(path)


def test_weights_may_come_when_loading(compiled: effcomp.CompiledModel, tmp_path: Path) -> None:
    path = tmp_path / "small.eff"
    compiled.save(path, weights="omit")
    with pytest.raises(ArtifactError, match="saved without its weights: pass them to load"):
        effcomp.load(path)
    state = small(2).state_dict()
    loaded = effcomp.load(path, weights=state)
    torch.testing.assert_close(loaded(X), run(small(2)))
    loaded.load_weights(small(3).state_dict())
    assert torch.equal(state["q.weight"], small(2).q.weight)
    torch.testing.assert_close(loaded(X), run(small(3)))


def test_strides_are_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.register_buffer("wide", torch.ones(1, 4).expand(5, 4))
    x = torch.randn(1, 3, 8, 8)
    effcomp.compile(model, (x,)).save(tmp_path / "conv.eff")
    loaded = effcomp.load(tmp_path / "conv.eff")
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x))
    assert not any("strides" in note for note in loaded.notes)


def test_a_full_device_is_told(
    compiled: effcomp.CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.eff"
    compiled.save(path)
    expected = compiled(X)

    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("effcomp.runtime.opening.laid_out", full)
        with pytest.raises(DeviceError, match=r"out of memory: the model's weights take 0\.00 GiB"):
            effcomp.load(path)
    pair = {"q.lora_A.weight": torch.ones(2, 8), "q.lora_B.weight": torch.ones(8, 2)}
    with monkeypatch.context() as patch:
        patch.setattr("effcomp.runtime.model.merged", full)
        with pytest.raises(DeviceError, match="out of memory"):
            compiled.set_lora(pair)
    assert torch.equal(compiled(X), expected)
