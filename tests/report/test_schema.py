"""A report is data: it survives JSON, says what is wrong with what is none, reads as text."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

from effcomp.api import Compilation
from effcomp.errors import ReportError
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
