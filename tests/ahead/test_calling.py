"""A compiled model is called as the model is, and says what it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import effcomp
from effcomp.errors import ArtifactError, CaptureError, ConfigError
from tests.ahead.models import Counting, compile_counting, counting_inputs

TAKES = r"counting_\w+ takes \(x: f32\[s0, 4\], flag: False, more: \{'a': f32\[s0, 4\]\}, times: 5"


@pytest.fixture(scope="module")
def model() -> Counting:
    torch.manual_seed(0)
    return Counting()


@pytest.fixture(scope="module")
def loaded(model: Counting, tmp_path_factory: pytest.TempPathFactory) -> effcomp.CompiledModel:
    path = tmp_path_factory.mktemp("artifact") / "counting.eff"
    compile_counting(model).save(path)
    return effcomp.load(path)


def expected(model: Counting, rows: int) -> Any:
    x, more = counting_inputs(rows)
    with torch.no_grad():
        return model(x, False, more=more, times=5)


@pytest.mark.parametrize("rows", [2, 3, 64])
def test_results_are_the_models(model: Counting, loaded: effcomp.CompiledModel, rows: int) -> None:
    x, more = counting_inputs(rows)
    wanted = expected(model, rows)
    for found in (loaded(x, False, more=more, times=5), loaded(more=more, x=x)):
        assert list(found) == list(wanted)
        torch.testing.assert_close(found["y"], wanted["y"])
        torch.testing.assert_close(found["nested"][0], wanted["nested"][0])
        torch.testing.assert_close(found["nested"][1], wanted["nested"][1])
        assert isinstance(found["nested"], tuple)
        rest = {"none": None, "seven": 7, "rows": rows, "flag": False}
        assert {name: found[name] for name in rest} == rest


def test_state_is_the_compiled_models_own() -> None:
    model = Counting()
    compiled = compile_counting(model)
    x, more = counting_inputs()
    counts = [compiled(x, more=more)["count"].item() for _ in range(3)]
    assert counts == [1, 2, 3]
    assert model.count.item() == 0


BAD: dict[str, tuple[Callable[[Any, Any], tuple[tuple[Any, ...], dict[str, Any]]], str]] = {
    "constant": (
        lambda x, m: ((x, True), {"more": m}),
        "'flag' is True, it was compiled for False",
    ),
    "range": (lambda x, m: ((x[:1],), {"more": {"a": x[:1]}}), "size s0 is 1"),
    "dim": (lambda x, m: ((x[:, :3],), {"more": m}), r"x is f32\[3, 3\]"),
    "rank": (lambda x, m: ((x[0],), {"more": m}), r"x is f32\[4\]"),
    "dtype": (lambda x, m: ((x.double(),), {"more": m}), r"x is f64\[3, 4\]"),
    "sizes": (lambda x, m: ((x[:2],), {"more": m}), r"is f32\[3, 4\], but s0 is 2 elsewhere"),
    "missing": (lambda x, m: ((x,), {}), "argument 'more' is missing"),
    "unknown": (lambda x, m: ((x,), {"more": m, "z": 1}), "without an argument 'z'"),
    "twice": (lambda x, m: ((x,), {"more": m, "x": x}), "argument 'x' is given twice"),
    "keys": (lambda x, m: ((x,), {"more": {"b": x}}), r"not a dict of \['a'\]"),
    "no tensor": (lambda x, m: (([1.0],), {"more": m}), "x is a list, not a tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(loaded: effcomp.CompiledModel, name: str) -> None:
    make, why = BAD[name]
    args, kwargs = make(*counting_inputs())
    with pytest.raises(ArtifactError, match=why) as caught:
        loaded(*args, **kwargs)
    assert caught.match(TAKES)


def test_tied_weights_are_stored_once(model: Counting, tmp_path: Path) -> None:
    from zipfile import ZipFile

    from safetensors.torch import safe_open

    path = tmp_path / "counting.eff"
    compile_counting(model).save(path)
    with ZipFile(path) as archive:
        archive.extract("weights.safetensors", tmp_path)
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        names = set(file.keys())
    assert len({"first.weight", "second.weight"} & names) == 1
    assert {"first.bias", "second.bias", "count", "scale", "shift"} <= names


def test_an_exported_program_is_called_alike(model: Counting) -> None:
    x, more = counting_inputs()
    program = torch.export.export(model, (x, False), {"more": more, "times": 5}, strict=False)
    compiled = effcomp.compile(program)
    assert str(compiled.signature).startswith("(x: f32[3, 4], flag: False, more:")
    torch.testing.assert_close(compiled(x=x, more=more)["y"], expected(model, 3)["y"])
    with pytest.raises(ConfigError, match="has its arguments already"):
        effcomp.compile(program, (x,))


def test_what_cannot_be_compiled_is_said() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(CaptureError, match=r"torch\.export cannot trace Branching"):
        effcomp.compile(Branching(), (torch.ones(2),))
    with pytest.raises(ConfigError, match="a module or an exported program, not a function"):
        effcomp.compile(lambda x: x, (torch.ones(2),))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="targets are a list of names"):
        effcomp.compile(Counting(), targets="cpu")


def test_the_report_comes_along(loaded: effcomp.CompiledModel) -> None:
    (graph,) = loaded.report.graphs
    assert (graph.target, graph.role, dict(graph.sizes)) == ("cpu", "inference", {"s0": 3})
    assert [stage.spec for stage in graph.stages] == [spec for spec, _ in loaded.stages["cpu"]]
    assert loaded.report.title == "Counting"
