"""`effcomp opt`: passes on text, what can be watched, what goes wrong and how it is told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from effcomp.ir import parse_graph, print_graph
from tests.cli.calling import call, succeed

GRAPH = """\
graph @f(%x: f32[4, 8], %y: f32[4, 8]) {
  %0 = tensor.add(%x, %y) : f32[4, 8]
  %1 = tensor.exp(%0) : f32[4, 8]
  %2 = tensor.add(%y, %x) : f32[4, 8]
  %3 = tensor.mul(%1, %2) : f32[4, 8]
  return %3
}
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.ir"
    path.write_text(GRAPH)
    return path


def test_a_graph_alone_is_printed_again(graph: Path) -> None:
    assert succeed("opt", graph).out == GRAPH
    assert succeed("opt", "-", stdin=GRAPH).out == GRAPH


def test_passes_run_and_the_result_is_written(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ir"
    called = succeed("opt", graph, "--pipeline", "cse,dce", "-o", out)
    assert called.out == ""
    assert len(parse_graph(out.read_text()).ops) == 3
    assert succeed("opt", out, "-p", "cse").out == out.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.ir", "out.ir"]


def test_a_target_alone_runs_its_pipeline(graph: Path) -> None:
    called = succeed("opt", graph, "--target", "cpu", "--json")
    assert called.data["pipeline"].startswith("decompose{target=cpu},canonicalize")
    (op,) = parse_graph(called.data["graph"]).ops
    assert op.name == "fused.pointwise"


def test_a_target_is_an_option_of_the_passes_that_take_one(graph: Path) -> None:
    called = succeed(
        "opt", graph, "-t", "cuda:80", "-p", "decompose,fuse-rowwise{target=cpu},cse", "--json"
    )
    assert called.data["pipeline"] == "decompose{target=cuda:80},fuse-rowwise{target=cpu},cse"


def test_a_grouped_graph_can_be_taken_further(graph: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.ir"
    succeed("opt", graph, "-t", "cpu", "--stop-after", "fuse-pointwise", "-o", half)
    assert "fused.pointwise" in half.read_text()
    assert succeed("opt", half, "-p", "dce,plan-memory").out == half.read_text()


def test_stages_can_be_watched(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stages"
    called = succeed(
        "opt", graph, "-p", "canonicalize,cse", "--print-after-all", "--time", "--dump-dir", folder
    )
    assert "1. after canonicalize (unchanged)" in called.err
    assert "2. after cse (changed)" in called.err
    assert "MergeEqualOps 1" in called.err
    names = ["00-captured.ir", "01-canonicalize.ir", "02-cse.ir"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert (folder / names[2]).read_text() == called.out
    some = succeed("opt", graph, "-p", "canonicalize,cse", "--print-after", "cse").err
    assert "after cse" in some
    assert "after canonicalize" not in some


def test_rules_that_applied_and_those_that_came_near(graph: Path) -> None:
    called = succeed("opt", graph, "-p", "cse,fuse-attention", "--matches", "--trace", "drop-mask")
    assert "MergeEqualOps" in called.err
    miss = "fuse-attention: DropMask matched 0 of 1 ops; the program holds no nn.attention"
    assert miss in called.err
    wrong = call("opt", graph, "-p", "cse,fuse-attention", "--trace", "DropMasks")
    assert "no pass here has a rule 'DropMasks' to trace; did you mean 'DropMask'?" in wrong.err


def test_json_tells_every_stage(graph: Path) -> None:
    data = succeed("opt", graph, "-p", "canonicalize,cse", "--no-verify-each", "--json").data
    assert [stage["pass"] for stage in data["stages"]] == ["canonicalize", "cse"]
    assert data["stages"][1]["rules"] == {"MergeEqualOps": 1}
    assert data["graph"] == print_graph(parse_graph(data["graph"]))


def test_a_failure_can_be_reproduced_by_the_printed_command() -> None:
    failed = call("opt", "-", "-p", "fuse-pointwise,decompose", stdin=GRAPH)
    assert failed.code == 4
    (line,) = [text for text in failed.err.splitlines() if text.startswith("reproduce: ")]
    words = shlex.split(line.removeprefix("reproduce: "))
    again = call(*words[1:])
    Path(words[2]).unlink()
    assert words[0] == "effcomp"
    assert (again.code, again.err.splitlines()[0]) == (4, failed.err.splitlines()[0])


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("-p", "fuse-pointwisee"), 2, "did you mean 'fuse-pointwise'?"),
        (("-p", "fuse-epilogue{targett=cpu}"), 2, "did you mean 'target'?"),
        (("-t", "cuda:91"), 2, "did you mean"),
        (("-p", "cse", "--stop-after", "plan-memory"), 2, "known: cse"),
        (("-p", "cse", "--print-after", "cs"), 2, "did you mean 'cse'?"),
    ],
)
def test_wrong_usage_says_what_is_meant(
    graph: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    called = call("opt", graph, *args)
    assert called.code == code
    assert message in " ".join(called.err.replace("│", " ").split())
    assert called.out == ""


def test_bad_input_names_the_file_and_the_line(graph: Path, tmp_path: Path) -> None:
    missing = call("opt", tmp_path / "no.ir")
    assert (missing.code, "no such file" in missing.err) == (3, True)
    graph.write_text(GRAPH.replace("tensor.exp(%0)", "tensor.exp(%9)"))
    wrong = call("opt", graph)
    assert wrong.code == 3
    assert "line 3: %9 is not defined" in wrong.err
    assert str(graph) in wrong.err
    graph.write_text(GRAPH.replace("tensor.exp(%0) : f32[4, 8]", "tensor.exp(%0) : f32[4, 9]"))
    assert call("opt", graph).code == 4
    graph.write_bytes(b"\xff\xfe\x00")
    assert "is not text" in call("opt", graph).err


def test_a_folder_that_is_not_there_is_named(graph: Path, tmp_path: Path) -> None:
    out = tmp_path / "no" / "out.ir"
    called = call("opt", graph, "-o", out)
    assert called.code == 3
    assert called.err == f"error: {out}: no such file or directory\n"


def test_errors_are_data_too(graph: Path) -> None:
    failed = call("opt", graph, "-p", "csee", "--json")
    assert failed.data["error"]["kind"] == "ConfigError"
    assert failed.data["error"]["exit"] == failed.code == 2
    shown = call("opt", graph, "-p", "csee", "--traceback")
    assert "Traceback" in shown.err
    assert json.loads(failed.out)["error"]["message"] in shown.err
