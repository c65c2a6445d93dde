"""A report is data: it survives JSON, says what is wrong with what is none, reads as text."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import effcomp
from effcomp.errors import ReportError
from effcomp.report.schema import Report


@pytest.fixture(scope="module")
def report() -> Report:
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    with torch.no_grad():
        return effcomp.explain(model, torch.randn(3, 8))


def test_json_gives_the_same_report_back(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


def test_a_report_says_what_ran(report: Report) -> None:
    (graph,) = report.graphs
    assert report.title == "Sequential"
    assert report.versions["torch"] == torch.__version__
    assert graph.total == graph.modelled == 4
    assert graph.stages[0].spec == "captured"
    assert graph.stages[0].text.startswith(f"graph @{graph.name}(")
    named = {kernel.digest for kernel in graph.kernels}
    for group in graph.groups:
        assert group.bytes > 0
        assert group.estimate > graph.roofs.launch_seconds
        assert group.kind == "library" or group.runs in named
        assert graph.program.ops[group.op].loc == group.loc


def test_every_value_an_op_reads_is_defined_above(report: Report) -> None:
    program = report.graphs[0].program
    known = {value.name for value in program.params}
    for op in program.ops:
        assert known.issuperset(op.reads)
        known |= {value.name for value in op.results}
    assert known.issuperset(program.outputs)


def test_memory_fits_what_a_call_is_said_to_need(report: Report) -> None:
    (graph,) = report.graphs
    memory = graph.memory
    assert memory.weight_bytes == 4 * (8 * 16 + 16 + 16 + 16 + 16 * 4 + 4)
    assert memory.input_bytes == 4 * 3 * 8
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


def test_another_version_is_refused(report: Report) -> None:
    data = json.loads(report.to_json())
    data["version"] = 99
    with pytest.raises(ReportError, match="the report has version 99"):
        Report.from_json(json.dumps(data))
