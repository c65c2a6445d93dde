"""Where models come from: factories, exported programs, folders of diffusers and transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from effcomp.cli.sources import Source, resolve
from effcomp.cli.tensor_files import flatten, nested, read_tensors, write_tensors
from effcomp.errors import ConfigError, EffcompError, SourceError
from tests.cli.calling import ROOT, succeed
from tests.models.zoo import ZOO

FACTORIES = """\
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x, scale=None):
        y = self.linear(x)
        return y if scale is None else y * scale

model = Two()
x = torch.randn(2, 4)

def alone(): return Two()
def tensor(): return Two(), x
def listed(): return Two(), [x]
def named(): return Two(), {"x": x}
def both(): return Two(), (x,), {"scale": torch.ones(3)}
def wrong(): return 3
def failing(): raise ValueError("no weights here")
number = 3
"""
SMALL = {
    "flux": {"height": 4, "width": 4, "text": 6},
    "wan": {"frames": 2, "height": 4, "width": 4},
}


@pytest.fixture
def factories(tmp_path: Path) -> Path:
    path = tmp_path / "made_models.py"
    path.write_text(FACTORIES)
    return path


def run(source: Source) -> torch.Tensor:
    args, kwargs = source.call_arguments()
    with torch.no_grad():
        return source.module(*args, **kwargs)


@pytest.mark.parametrize("name", ["tensor", "listed", "named", "both"])
def test_a_factory_returns_a_module_and_its_arguments(factories: Path, name: str) -> None:
    source = resolve(f"{factories}:{name}")
    assert run(source).shape == (2, 3)
    assert set(source.named_arguments()) == ({"x", "scale"} if name == "both" else {"x"})
    assert not source.module.training


@pytest.mark.parametrize("name", ["alone", "model"])
def test_a_module_alone_takes_its_arguments_from_a_file(
    factories: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SourceError, match=r"missing a required argument: 'x'.*--inputs"):
        resolve(f"{factories}:{name}")
    inputs = tmp_path / "in.safetensors"
    save_file({"x": torch.randn(5, 4)}, inputs)
    assert run(resolve(f"{factories}:{name}", inputs=inputs)).shape == (5, 3)
    save_file({"y": torch.randn(5, 4)}, inputs)
    with pytest.raises(ConfigError, match="takes no argument 'y'"):
        resolve(f"{factories}:{name}", inputs=inputs)


def test_a_module_by_its_import_path(
    factories: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del factories
    monkeypatch.chdir(tmp_path)
    assert run(resolve("made_models:named")).shape == (2, 3)


def test_a_model_is_cast(factories: Path) -> None:
    source = resolve(f"{factories}:both", dtype="bf16")
    assert run(source).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}:nmaed", "did you mean 'named'"),
        ("{}:wrong", "returned a int; a factory returns"),
        ("{}:failing", "raised ValueError: no weights here"),
        ("{}:number", "neither a module nor a function"),
        ("./no_such.py:named", "there is no file"),
        ("./no_such:named", "there is no file"),
        ("no_such_package:named", "cannot import no_such_package"),
        ("named", "names no model"),
        ("missing.pt2", "there is no file missing.pt2"),
    ],
)
def test_what_is_no_model_says_so(factories: Path, text: str, message: str) -> None:
    with pytest.raises(EffcompError, match=message):
        resolve(text.format(factories))


def test_an_exported_program(factories: Path, tmp_path: Path) -> None:
    made = resolve(f"{factories}:both")
    program = torch.export.export(made.module, made.args, dict(made.kwargs))
    path = tmp_path / "two.pt2"
    torch.export.save(program, path)
    source = resolve(str(path))
    assert torch.equal(run(source), run(made))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceError, match="is not an exported program"):
        resolve(str(path))


@pytest.mark.parametrize("name", ["flux", "wan", "sd3", "pixart", "unet", "vae"])
def test_a_folder_of_diffusers(name: str, tmp_path: Path) -> None:
    ZOO[name].build().save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    source = resolve(None, f"diffusers:{tmp_path}", sizes=SMALL.get(name))
    assert run(source)[0].shape[0] == 2


@pytest.mark.parametrize("name", ["llama", "bert", "vit", "t5", "whisper", "clip"])
def test_a_folder_of_transformers(name: str, tmp_path: Path) -> None:
    ZOO[name].build().save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    sizes = {"tokens": 8} if name in ("llama", "bert", "t5", "clip") else {}
    source = resolve(None, f"transformers:{tmp_path}", sizes=sizes)
    assert run(source) is not None
    bare = resolve(None, f"transformers:{tmp_path}", sizes=sizes, weights=False, dtype="bf16")
    assert bare.mode is not None
    assert {p.dtype for p in bare.module.parameters()} == {torch.bfloat16}
    shapes = {name: p.shape for name, p in source.module.named_parameters()}
    assert {name: p.shape for name, p in bare.module.named_parameters()} == shapes


@pytest.mark.parametrize(
    ("name", "library", "args"),
    [
        ("flux", "diffusers", ("height=4", "width=4", "text=6", "hidden_states:1,img_ids:0=4..64")),
        ("llama", "transformers", ("tokens=8", "input_ids:1=2..32")),
    ],
)
def test_a_folder_is_planned_with_changing_sizes(
    name: str, library: str, args: tuple[str, ...], tmp_path: Path
) -> None:
    ZOO[name].build().save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    *sizes, dynamic = args
    given = [text for size in sizes for text in ("--size", size)]
    source = ("--from", f"{library}:{tmp_path}", *given, "--dynamic", dynamic)
    with_weights = succeed("compile", *source, "-o", tmp_path / "m.eff", "--json").data
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()  # planning reads the configuration alone
    (one,) = succeed("compile", *source, "--dry-run", "--json").data["targets"]
    assert one["coverage"]["calls"] == []
    assert one["sizes"]
    assert one["partition"]["steps"] == with_weights["targets"]["cpu"]["steps"]


def test_a_component_of_a_pipeline(tmp_path: Path) -> None:
    ZOO["flux"].build().save_pretrained(tmp_path / "transformer")  # pyright: ignore[reportCallIssue]
    kind = '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}'
    (tmp_path / "model_index.json").write_text(kind)
    source = resolve(None, f"diffusers:{tmp_path}#transformer", sizes=SMALL["flux"])
    assert run(source)[0].shape == (2, 16, 8)
    with pytest.raises(SourceError, match="no model 'unet'; choose a model of it"):
        resolve(None, f"diffusers:{tmp_path}#unet")
    with pytest.raises(SourceError, match="is a whole pipeline; choose"):
        resolve(None, f"diffusers:{tmp_path}")
    with pytest.raises(ConfigError, match="no size 'heigth'; did you mean 'height'"):
        resolve(None, f"diffusers:{tmp_path}#transformer", sizes={"heigth": 4})


def test_the_trained_model_of_the_repository() -> None:
    folder = ROOT / "examples" / "models" / "flux-glyphs"
    source = resolve(
        None, f"diffusers:{folder}", sizes={"batch": 1, "height": 4, "width": 4, "text": 4}
    )
    assert run(source)[0].shape == (1, 16, 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diffuser:x", "did you mean 'diffusers'"),
        ("diffusers", "is not LIBRARY:PATH"),
        ("diffusers:./no-such-folder", "is not a folder"),
        ("transformers:./README.md", "is not a folder"),
    ],
)
def test_a_wrong_library_source_says_so(text: str, message: str) -> None:
    with pytest.raises(EffcompError, match=message):
        resolve(None, text)


def test_names_of_tensors_lead_into_containers(tmp_path: Path) -> None:
    tree = {"x": torch.ones(2), "cache": {"keys": torch.zeros(1)}, "images": [torch.ones(1)] * 2}
    flat = dict(flatten(tree))
    assert list(flat) == ["x", "cache.keys", "images.0", "images.1"]
    write_tensors(tmp_path / "t.safetensors", flat)
    again = nested(read_tensors(tmp_path / "t.safetensors"))
    assert torch.equal(again["images"][1], torch.ones(1))
    assert set(again) == set(tree)
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]
    for clash in (["a", "a.b"], ["a.b", "a"]):
        with pytest.raises(SourceError, match="is a tensor"):
            nested(dict.fromkeys(clash, torch.ones(1)))
