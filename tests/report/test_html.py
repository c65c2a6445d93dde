"""The page is well formed, needs nothing but itself, and runs nothing that a model says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from effcomp.report.html import render
from effcomp.report.model_explorer import export
from effcomp.report.schema import MissReport, Report

VOID = {"br", "circle", "img", "input", "link", "meta", "path", "rect"}
EVIL = "</script></title></style>\"'><img src=x onerror=alert(1)><script>alert(2)</script>&amp;"


class Page(HTMLParser):
    """Checks that tags nest; keeps elements and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def page(gpu_report: Report) -> str:
    return render(gpu_report)


def test_the_page_is_well_formed(page: str) -> None:
    parsed = Page(page)
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in parsed.tags].count("script") == 2


def test_the_page_loads_nothing(page: str) -> None:
    for tag, attrs in Page(page).tags:
        assert "src" not in attrs, tag
        assert tag not in ("iframe", "object", "embed", "base"), tag
        if tag in ("a", "link", "use"):
            assert (attrs.get("href") or "").startswith(("#", "data:"))
    assert not re.search(r"https?://|url\((?!#)|@import|\bfetch\(|XMLHttpRequest|\bimport\(", page)


def test_the_policy_admits_our_script_and_no_other(page: str) -> None:
    parsed = Page(page)
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[-1].encode()).digest()).decode()
    (policy,) = (
        a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")


def test_what_a_model_says_is_text(gpu_report: Report) -> None:
    (graph,) = gpu_report.graphs
    groups = tuple(
        replace(group, label=EVIL, loc=f"{EVIL}:3", scope=EVIL, ops=(EVIL,))
        for group in graph.groups
    )
    kernels = tuple(replace(kernel, source=EVIL, function=EVIL) for kernel in graph.kernels)
    stages = tuple(
        replace(stage, spec=EVIL, text=stage.text.replace("nn.", EVIL)) for stage in graph.stages
    )
    params = tuple(replace(param, name=EVIL, weight=False) for param in graph.program.params)
    program = replace(graph.program, params=params)
    broken = {p.name: EVIL for p in graph.program.params}
    ops = tuple(
        replace(op, reads=tuple(broken.get(name, name) for name in op.reads)) for op in program.ops
    )
    hostile = replace(
        graph,
        name=EVIL,
        groups=groups,
        kernels=kernels,
        stages=stages,
        notes=(EVIL,),
        program=replace(program, ops=ops),
    )
    report = replace(
        gpu_report, graphs=(hostile, hostile), title=EVIL, breaks=(EVIL,), fallbacks=(EVIL,)
    )
    text = render(report)
    parsed = Page(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert not any(name.startswith("on") for _, attrs in parsed.tags for name in attrs)
    assert json.loads(parsed.scripts[0])[0]["kernels"][0]["source"] == EVIL


def test_a_report_of_nothing_is_a_page_too() -> None:
    parsed = Page(render(Report(graphs=(), breaks=("a reason",), fallbacks=("all of it",))))
    assert parsed.scripts[0] == "[]"


def test_model_explorer_gets_every_op_and_every_edge(gpu_report: Report) -> None:
    found = export(gpu_report)
    assert set(found) == {"label", "graphs"}
    ((graph,), (report,)) = found["graphs"], gpu_report.graphs
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    for node in nodes.values():
        for edge in node["incomingEdges"]:
            assert int(edge["sourceNodeId"]) < int(node["id"])
            outputs = nodes[edge["sourceNodeId"]]["outputsMetadata"]
            assert edge["sourceNodeOutputId"] in {output["id"] for output in outputs}
    inner = sum(len(op.body.ops) if op.body else 1 for op in report.program.ops)
    assert len(nodes) == inner + len(report.program.params) + 1
    layers = [node["namespace"] for node in nodes.values()]
    assert any(layer.startswith("blocks/2/") for layer in layers)
    assert set(graph["groupNodeAttributes"]) - {""} <= set(layers)
    assert json.loads(json.dumps(found)) == found


def test_measured_times_take_the_place_of_estimates(cpu_report: Report) -> None:
    (graph,) = cpu_report.graphs
    measured = cpu_report.with_times("cpu", [0.001] * len(graph.groups))
    assert cpu_report.with_times("cuda:90", []) == cpu_report
    assert {group.measured for group in measured.graphs[0].groups} == {0.001}
    assert "Estimated time of a call" in render(cpu_report)
    text = render(measured)
    assert "Measured time of a call" in text
    assert f"{len(graph.groups)} ms" in text
    assert Report.from_json(measured.to_json()) == measured


def test_the_nearest_misses_of_traced_rules_are_shown(cpu_report: Report) -> None:
    (graph,) = cpu_report.graphs
    assert "Nearest misses" not in render(cpu_report)
    miss = MissReport("fuse-silu", "FuseSilu", 4, 5, "softmax has dim=1", "stacked.py:9", "")
    text = render(replace(cpu_report, graphs=(replace(graph, misses=(miss,)),)))
    assert "Nearest misses" in text
    assert "softmax has dim=1" in text
    assert "4 of 5" in text
