"""`effcomp compile`, `run` and `inspect`: from a model to an artifact and its results."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from effcomp.ir import parse_graph
from tests.cli import models
from tests.cli.calling import ROOT, Called, call, succeed

MODELS = Path(models.__file__)
MLP, SUMS = f"{MODELS}:mlp", f"{MODELS}:sums"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "mlp.eff"
    args = ("-t", "cpu", "-t", "cuda:90", "--dynamic", "x:0=1..8")
    called = succeed("compile", MLP, "-o", path, *args)
    assert called.out.startswith(f"{path}: ")
    return path


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "sums.eff"
    succeed("compile", SUMS, "-o", path)
    return path


def refused(called: Called, code: int, *parts: str) -> None:
    assert called.code == code, called.err
    for part in parts:
        assert part in called.err
    assert "Traceback" not in called.err


# compile


def test_a_dry_run_predicts_and_writes_nothing(tmp_path: Path) -> None:
    args = ("compile", MLP, "--dry-run", "-t", "cpu", "-t", "cuda:90", "--dynamic", "x:0=1..8")
    data = succeed(*args, "--json").data
    assert [one["target"] for one in data["targets"]] == ["cpu", "cuda:90"]
    on_gpu = data["targets"][1]
    assert data["prediction"] is True
    assert on_gpu["coverage"]["modelled"] == on_gpu["coverage"]["ops"] == 5
    assert on_gpu["partition"]["kernels"] == on_gpu["partition"]["steps"] == len(on_gpu["steps"])
    assert on_gpu["memory"]["inputs"] == 4 * 4 * 6 * 16
    assert on_gpu["sizes"] == {"s0": 4}
    assert on_gpu["estimated_seconds"] > 0
    shown = succeed(*args).out
    assert "5 of 5 ops modelled" in shown
    assert "estimated by roofline" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_what_is_not_modelled() -> None:
    data = succeed("compile", f"{MODELS}:counting", "--dry-run", "--json").data
    (one,) = data["targets"][0]["coverage"]["calls"]
    assert "histc" in one["operator"]
    assert "runs as a call: aten.histc" in succeed("compile", f"{MODELS}:counting", "--dry-run").out


def test_every_form_can_be_emitted(tmp_path: Path) -> None:
    captured = succeed("compile", MLP, "--emit", "ir:captured").out
    assert parse_graph(captured).ops[0].name == "nn.layer_norm"
    last = succeed("compile", MLP, "--emit", "ir").out
    assert succeed("opt", "-", "--target", "cpu", stdin=captured).out == last
    assert succeed("compile", MLP, "--emit", "plan").out.startswith("plan @mlp")
    out = tmp_path / "kernels.py"
    succeed("compile", MLP, "--emit", "triton", "-t", "cuda:90", "-o", out)
    assert "@triton.jit" in out.read_text()
    compile(out.read_text(), str(out), "exec")


def test_mlir_can_be_emitted() -> None:
    pytest.importorskip("torch_mlir")
    assert "linalg.generic" in succeed("compile", MLP, "--emit", "mlir:linalg").out
    refused(call("compile", MLP, "--emit", "mlir:linalgg"), 2, "did you mean 'linalg'?")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "say where to write"),
        (("--emit", "plann"), 2, "did you mean 'plan'?"),
        (("--emit", "ir:csee"), 2, "did you mean 'cse'?"),
        (("--emit", "triton"), 2, "has no Triton kernels"),
        (("--emit", "plan", "-t", "cpu", "-t", "cuda:90"), 2, "give one --target"),
        (("--dry-run", "-p", "csee"), 2, "did you mean 'cse'?"),
        (("--dry-run", "--option", "regionss=auto"), 2, "did you mean 'regions'?"),
        (("--dry-run", "--option", "regions=sometimes"), 2, "cannot be 'sometimes'"),
        (("--dry-run", "--option", "regions"), 2, "is not NAME=VALUE"),
        (("--dry-run", "--dynamic", "y:0=1..4"), 2, "It takes: x[4, 6, 16]"),
        (("--dry-run", "--dynamic", "x:2=1..99"), 2, "x:2 cannot vary by itself"),
        (("--dry-run", "--from", "diffusers:x"), 2, "name one model"),
        (("--dry-run", "--size", "batch=2"), 2, "--size is for models that come with --from"),
        (("--dry-run", "--dtype", "bf61"), 2, "did you mean 'bf16'?"),
        (("--dry-run", "--device", "cudaa"), 2, "is none of cpu, cuda"),
        (("--dry-run", "--device", "cuda:99"), 5, "there is no device cuda:99"),
        (("--dry-run", "--inputs", "no.safetensors"), 3, "there is no file no.safetensors"),
    ],
)
def test_what_cannot_be_compiled_says_why(args: tuple[str, ...], code: int, message: str) -> None:
    refused(call("compile", MLP, *args), code, message)


def test_a_model_that_cannot_be_traced_says_so() -> None:
    refused(call("compile", f"{MODELS}:untraceable", "--dry-run"), 4, "cannot trace Untraceable")


def test_options_reach_the_compiler() -> None:
    args = ("compile", MLP, "--dry-run", "--json", "--option", "disable=fuse-epilogue,cse")
    data = succeed(*args, "-t", "cuda:90").data
    labels = [step["label"] for step in data["targets"][0]["steps"]]
    assert "nn.linear" in labels
    text = succeed("compile", MLP, "--emit", "ir", "-p", "canonicalize,cse").out
    assert "fused" not in text


def test_an_artifact_is_not_compiled_again() -> None:
    refused(call("compile", "mlp.eff", "--dry-run"), 2, "mlp.eff is compiled already")


def test_what_a_factory_prints_stays_out_of_the_results(tmp_path: Path) -> None:
    source = "print('importing')\nfrom torch import nn, ones\ndef make():\n    print('making')\n"
    (tmp_path / "noisy.py").write_text(source + "    return nn.Linear(2, 2), ones(3, 2)\n")
    called = succeed("compile", tmp_path / "noisy.py:make", "--dry-run", "--json")
    assert called.data["prediction"] is True
    assert called.err == "importing\nmaking\n"


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "no" / "folder"
    refused(call("compile", MLP, "-o", folder / "m.eff"), 3, str(folder))
    assert list(tmp_path.iterdir()) == []


def test_weights_can_stay_where_they_are(tmp_path: Path) -> None:
    module, (x,) = models.mlp()
    weights, out = tmp_path / "weights.safetensors", tmp_path / "out.safetensors"
    save_file(module.state_dict(), weights)
    path = tmp_path / "mlp.eff"
    args = ("compile", MLP, "-o", path, "--weights")
    refused(call(*args, "reference"), 2, "name the files that hold them with --weight-file")
    assert not path.exists()
    succeed(*args, "reference", "--weight-file", weights)
    data = succeed("inspect", path, "--json").data["weights"]
    assert (data["embedded_bytes"], data["files"]) == (0, ["weights.safetensors"])
    succeed(*args, "omit")
    save_file({"x": x}, tmp_path / "in.safetensors")
    run = ("run", path, "--inputs", tmp_path / "in.safetensors", "-o", out)
    assert call(*run).code == 3
    module.down.bias.data += 1  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]
    save_file(module.state_dict(), weights)
    succeed(*run, "--weights", weights)
    with torch.no_grad():
        torch.testing.assert_close(load_file(out)["output"], module(x))


def test_an_adapter_changes_what_runs(artifact: Path, tmp_path: Path) -> None:
    module, (x,) = models.mlp()
    a, b = torch.randn(2, 16), torch.randn(32, 2)
    adapter, out = tmp_path / "lora.safetensors", tmp_path / "out.safetensors"
    save_file({"up.lora_A.weight": a, "up.lora_B.weight": b}, adapter)
    save_file({"x": x}, tmp_path / "in.safetensors")
    run = ("run", artifact, "--inputs", tmp_path / "in.safetensors", "-o", out)
    succeed(*run, "--lora", adapter, "--lora-scale", "0.5")
    module.up.weight.data += 0.5 * b @ a  # pyright: ignore[reportOperatorIssue, reportAttributeAccessIssue]
    with torch.no_grad():
        torch.testing.assert_close(load_file(out)["output"], module(x), rtol=1e-4, atol=1e-4)


# inspect


def test_an_artifact_is_described(artifact: Path) -> None:
    data = succeed("inspect", artifact, "--verify", "--json").data
    assert data["call"] == "(x: f32[s0, 6, 16]) where 2 <= s0 <= 8"
    assert data["targets"]["cuda:90"]["cubins"] == data["targets"]["cuda:90"]["triton_kernels"] > 0
    assert data["targets"]["cpu"]["regions"] > 0
    assert data["weights"]["embedded_bytes"] == 4 * (2 * 16 + 2 * 16 * 32 + 32 + 16)
    assert data["verified"] is True
    shown = succeed("inspect", artifact, "--verify", "--entries").out
    assert "every digest is right" in shown
    assert "plan.json" in shown


def test_nothing_of_an_artifact_needs_torch_to_be_described(artifact: Path) -> None:
    code = (
        "import sys\nfrom effcomp.cli import app\n"
        f"try:\n    app(['inspect', {str(artifact)!r}])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'triton'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_file_of_it_can_be_shown(artifact: Path) -> None:
    text = succeed("inspect", artifact, "--show", "stages/cpu/00-captured.ir").out
    assert len(parse_graph(text).ops) == 5
    (kernel,) = [
        name
        for name in succeed("inspect", artifact, "--json").data["entries"]
        if name.startswith("kernels/layer_norm")
    ]
    assert "@triton.jit" in succeed("inspect", artifact, "--show", kernel).out
    wrong = call("inspect", artifact, "--show", "plan.jso")
    refused(wrong, 2, "did you mean 'plan.json'?")


def test_what_is_no_artifact_says_so(artifact: Path, tmp_path: Path) -> None:
    refused(call("inspect", tmp_path / "no.eff"), 3, "no.eff")
    short = tmp_path / "short.eff"
    short.write_bytes(artifact.read_bytes()[:-100])
    refused(call("inspect", short), 3, str(short))
    refused(call("run", short, "--random"), 3, str(short))
    changed = tmp_path / "changed.eff"
    with zipfile.ZipFile(artifact) as old, zipfile.ZipFile(changed, "w") as new:
        for info in old.infolist():
            body = old.read(info)
            new.writestr(
                info, body.replace(b"cpu", b"gpu") if info.filename == "plan.json" else body
            )
    refused(call("inspect", changed), 3, "plan.json is damaged")


# run


def test_an_artifact_runs_on_inputs_of_a_file(artifact: Path, tmp_path: Path) -> None:
    inputs, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    x = torch.randn(3, 6, 16)
    save_file({"x": x}, inputs)
    data = succeed("run", artifact, "--inputs", inputs, "-o", out, "--json").data
    assert data["results"][0]["shape"] == [3, 6, 16]
    with torch.no_grad():
        expected = models.mlp()[0](x)
    torch.testing.assert_close(load_file(out)["output"], expected)


def test_containers_are_named_with_dots(nested: Path, tmp_path: Path) -> None:
    inputs, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file({"tokens": torch.tensor([3, 0]), "cache.keys.0": torch.ones(2, 8)}, inputs)
    succeed("run", nested, "--inputs", inputs, "-o", out)
    results = load_file(out)
    assert set(results) == {"sum", "parts.0", "parts.1"}
    assert torch.equal(results["sum"], results["parts.0"] + 1)
    save_file({"tokens": torch.tensor([3, 0])}, inputs)
    refused(call("run", nested, "--inputs", inputs), 3, "input 'cache.keys.0' is missing")
    save_file({"token": torch.tensor([3, 0])}, inputs)
    refused(call("run", nested, "--inputs", inputs), 3, "did you mean 'tokens'?")


def test_random_inputs_are_the_same_for_a_seed(artifact: Path, nested: Path) -> None:
    args = ("run", artifact, "--random", "--size", "x:0=5", "--json")
    first, again, other = (
        succeed(*args, *more).data["results"] for more in ((), (), ("--seed", 1))
    )
    assert first == again != other
    assert first[0]["shape"] == [5, 6, 16]
    rows = succeed("run", nested, "--random", "--json").data["results"]
    assert {row["name"] for row in rows} == {"sum", "parts.0", "parts.1"}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ((), 2, "or let them be made up: --random"),
        (("--random", "--inputs", "x"), 2, "or let them be made up: --random"),
        (("--random", "--size", "x=2"), 2, "is not NAME:DIM=N"),
        (("--random", "--size", "y:0=2"), 2, "takes no input 'y'"),
        (("--random", "--size", "x:1=2"), 2, "cannot be chosen"),
        (("--random", "--size", "x:0=9"), 3, "takes (x: f32[s0, 6, 16]) where 2 <= s0 <= 8"),
        (("--random", "--device", "cuda"), 5, "cuda"),
    ],
)
def test_a_call_that_does_not_fit_says_what_does(
    artifact: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    if "cuda" in args and torch.cuda.is_available():
        pytest.skip("there is such a device here")
    refused(call("run", artifact, *args), code, message)
