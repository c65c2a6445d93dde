"""A report is data: it survives JSON, says what is wrong with what is none, reads as text."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effcomp.api import Compilation
from effcomp.errors import ReportError
from effcomp.report.html import render
from effcomp.report.model_explorer import export
from effcomp.report.schema import Report
from effcomp.reporting import report_of
from effcomp.runtime.kernels import build_cubins
from effcomp.runtime.program import analyze
from tests.report.stacked import BLOCKS


def test_json_gives_the_same_report_back(cpu_report: Report) -> None:
    assert Report.from_json(cpu_report.to_json()) == cpu_report


def test_a_report_says_what_ran(cpu_report: Report) -> None:
    (graph,) = cpu_report.graphs
    assert cpu_report.title == "Stack"
    assert cpu_report.versions["torch"] == torch.__version__
    assert graph.total == graph.modelled > 20
    assert graph.stages[0].spec == "captured"
    assert graph.stages[0].text.startswith(f"graph @{graph.name}(")
    named = {kernel.digest for kernel in graph.kernels}
    for group in graph.groups:
        assert group.bytes > 0
        assert group.estimate > graph.roofs.launch_seconds
        assert group.kind == "library" or group.runs in named
        assert graph.program.ops[group.op].loc == group.loc


def test_every_value_an_op_reads_is_defined_above(cpu_report: Report) -> None:
    program = cpu_report.graphs[0].program
    known = {value.name for value in program.params}
    for op in program.ops:
        assert known.issuperset(op.reads)
        known |= {value.name for value in op.results}
    assert known.issuperset(program.outputs)


def test_memory_fits_what_a_call_is_said_to_need(cpu_report: Report) -> None:
    (graph,) = cpu_report.graphs
    memory = graph.memory
    block = 2 * 16 + 16 * 32 + 32 + 32 * 16 + 16
    assert memory.weight_bytes == 4 * (BLOCKS * block + 16 * 4 + 4)
    assert memory.input_bytes == 4 * 3 * 16
    for held in memory.holdings:
        assert 0 <= held.first <= held.last <= len(graph.groups)
        if held.offset is not None:
            assert held.offset + held.bytes <= memory.arena_bytes <= memory.peak_bytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a report: the text: Invalid JSON"),
        ("[]", "not a report: the text"),
        ('{"graphs": [], "code": 1}', "not a report: code"),
        ('{"graphs": [{"name": 3}]}', r"not a report: graphs\.0\.name"),
    ],
)
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        Report.from_json(text)


def test_another_version_is_refused(cpu_report: Report) -> None:
    data = json.loads(cpu_report.to_json())
    data["version"] = 99
    with pytest.raises(ReportError, match="the report has version 99"):
        Report.from_json(json.dumps(data))


def test_steps_know_their_module_and_their_line_of_source(gpu_report: Report) -> None:
    (graph,) = gpu_report.graphs
    scopes = {group.scope for group in graph.groups}
    assert {"blocks.0.norm", "blocks.3.down", "head"} <= scopes
    (source,) = gpu_report.sources
    assert source.file == "stacked.py"
    assert any("self.norm(x)" in line for line in source.lines.values())
    kinds = {kernel.kind for kernel in graph.kernels}
    assert kinds == {"triton"}


def test_sizes_that_no_call_told_are_named(gpu_report: Report) -> None:
    assert gpu_report.graphs[0].assumed == ()


def test_a_report_is_not_written_where_it_cannot_be(cpu_report: Report, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"cannot write the report to .*: No such file"):
        cpu_report.to_html(tmp_path / "missing" / "report.html")


@pytest.mark.slow
def test_what_kernels_take_is_what_nvidias_tool_says(
    gpu_record: Compilation, tmp_path: Path
) -> None:
    nvidia = pytest.importorskip("triton.backends.nvidia", reason="needs Triton")
    tool = Path(nvidia.__path__[0]) / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip(f"this Triton brings no {tool.name}")
    cubins = build_cubins(analyze(gpu_record.plan), 90)
    graph = report_of(gpu_record, cubins=cubins)
    kernels = {kernel.digest: kernel for kernel in graph.kernels}
    path = tmp_path / "kernel.cubin"
    for cubin in cubins:
        path.write_bytes(cubin.code)
        command = [str(tool), "--dump-resource-usage", str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        stated = re.search(r"REG:(\d+) STACK:(\d+)", run.stdout)
        assert stated is not None
        kernel = kernels[cubin.facts.kernel]
        assert (kernel.registers, kernel.stack_bytes) == tuple(map(int, stated.groups()))
        assert kernel.shared_bytes == cubin.facts.shared


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g["groups"][0].update(op=99), r"step 0: op 99 of"),
        (lambda g: g["groups"][0].update(bytes=-1), r"bytes: Input should be greater"),
        (lambda g: g["groups"][0].update(estimate=float("nan")), r"not a report"),
        (lambda g: g["roofs"].update(bandwidth=0), r"bandwidth: Input should be greater than 0"),
        (lambda g: g["program"]["ops"][0].update(reads=["y"]), r"reads 'y', which nothing above"),
        (lambda g: g["program"].update(outputs=["y"]), r"returns 'y', which nothing defines"),
        (lambda g: g["program"]["params"].append(g["program"]["params"][0]), "two parameters"),
        (lambda g: g["memory"]["holdings"][0].update(last=10**6), r"is held from step"),
        (lambda g: g["memory"].update(arena_bytes=0), r"lies outside of the arena"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    gpu_report: Report, change: Callable[[Any], None], message: str
) -> None:
    data = json.loads(gpu_report.to_json())
    change(data["graphs"][0])
    with pytest.raises(ReportError, match=message):
        Report.from_json(json.dumps(data))


def _leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value that is no list or object."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_a_changed_report_is_shown_or_refused(cpu_report: Report) -> None:
    text = cpu_report.to_json()
    paths = list(_leaves(json.loads(text)))
    odd = st.one_of(st.integers(-3, 2**70), st.floats(), st.text(max_size=5), st.none())

    @given(st.lists(st.tuples(st.sampled_from(paths), odd), min_size=1, max_size=3))
    @settings(max_examples=60)
    def check(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        changed = json.loads(text)
        for (*above, last), value in changes:
            place = changed
            for key in above:
                place = place[key]
            place[last] = value
        try:
            report = Report.from_json(json.dumps(changed))
        except ReportError:
            return
        str(report)
        render(report)
        export(report)

    check()
