"""`effcomp bench` and `explain`: what is measured and what is told, for models and artifacts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from effcomp.cli.bench_lanes import relative_error
from effcomp.report.schema import Report
from tests.cli import models
from tests.cli.calling import call, succeed

MLP = f"{models.__file__}:mlp"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "mlp.eff"
    succeed("compile", MLP, "-o", path)
    return path


def test_a_model_is_timed_beside_eager() -> None:
    data = succeed("bench", MLP, "--seconds", "0.05", "--tolerance", "1e-5", "--json").data
    own, eager = data["lanes"]
    assert data["machine"]["torch"] == torch.__version__
    assert (own["name"], eager["name"]) == ("effcomp", "eager")
    assert 0 < own["p10_ms"] <= own["median_ms"] <= own["p90_ms"]
    assert own["error"] < 1e-5
    assert eager["error"] == 0
    assert eager["speedup"] == pytest.approx(eager["median_ms"] / own["median_ms"])


def test_an_artifact_is_timed_alone_or_beside_its_model(artifact: Path) -> None:
    alone = succeed("bench", artifact, "--seconds", "0.05")
    assert "effcomp" in alone.out
    assert "eager" not in alone.out
    assert "--model" in alone.err
    args = ("bench", artifact, "--model", MLP, "--seconds", "0.05", "--tolerance", "1e-5")
    assert "eager" in succeed(*args).out


def test_an_exported_program_is_timed_and_explained(tmp_path: Path) -> None:
    module, args = models.mlp()
    path = tmp_path / "mlp.pt2"
    torch.export.save(torch.export.export(module, args), path)
    own, _ = succeed("bench", path, "--seconds", "0.05", "--json").data["lanes"]
    assert own["error"] < 1e-5
    assert "(inference, cpu): 5 of 5 ops modelled" in succeed("explain", path).out
    assert call("bench", path, "--dtype", "bf16").code == 2


def test_what_cannot_be_timed_says_why(tmp_path: Path) -> None:
    missing = call("bench", tmp_path / "no.eff")
    assert (missing.code, "no.eff" in missing.err) == (3, True)
    for command in ("bench", "explain"):
        wrong = call(command, MLP, "-p", "csee")
        assert (wrong.code, "did you mean 'cse'?" in wrong.err) == (2, True)


def test_a_larger_error_than_allowed_fails(artifact: Path) -> None:
    args = ("bench", artifact, "--model", MLP, "--seconds", "0.05", "--tolerance", "-1")
    failed = call(*args)
    assert failed.code == 1
    assert "is larger than" in failed.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((MLP, "--against", "inductr"), "did you mean 'inductor'?"),
        ((MLP, "--model", MLP), "a model stands alone"),
        ((), "name an artifact, a model, or --from"),
    ],
)
def test_wrong_usage_says_so(args: tuple[str, ...], message: str) -> None:
    called = call("bench", *args)
    assert called.code == 2
    assert message in called.err


def test_errors_are_relative_to_the_whole_result() -> None:
    expected = {"a": torch.ones(3), "n": torch.tensor([1]), "b": [torch.zeros(1)]}
    got = {"a": torch.ones(3), "n": torch.tensor([2]), "b": [torch.full((1,), 3**0.5)]}
    assert relative_error(got, expected) == pytest.approx(1)
    assert relative_error({"a": torch.ones(2)}, expected) == float("inf")


def test_a_model_is_explained() -> None:
    text = succeed("explain", MLP).out
    assert "1 graph(s), 0 graph break(s)" in text
    assert "(inference, cpu): 5 of 5 ops modelled" in text
    report = Report.from_json(succeed("explain", MLP, "--target", "cuda:90", "--json").out)
    assert report.graphs[0].target == "cuda:90"
    assert any("self.norm(x)" in text for found in report.sources for text in found.lines.values())


def test_options_reach_what_is_explained() -> None:
    text = succeed("explain", MLP, "--option", "disable=fuse-pointwise,plan-memory", "--json").out
    specs = [stage.spec for stage in Report.from_json(text).graphs[0].stages]
    assert not any(spec.startswith("fuse-pointwise") for spec in specs)


def test_an_artifact_tells_what_was_done(artifact: Path) -> None:
    assert "5 of 5 ops modelled" in succeed("explain", artifact).out


def test_a_report_is_written_as_a_page_and_as_graphs(artifact: Path, tmp_path: Path) -> None:
    page, graphs = tmp_path / "report.html", tmp_path / "graphs.json"
    called = succeed("explain", artifact, "--html", page, "--model-explorer", graphs)
    assert called.out == ""
    assert page.read_text().startswith("<!doctype html>")
    assert "layer_norm" in str(json.loads(graphs.read_text()))
