"""The report as one page: it needs no network and no file, and runs no script but its own."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from effcomp.report import charts
from effcomp.report.charts import Alike, MemoryMap, Roofline, bound_of, seconds_of
from effcomp.report.diffs import Hunk, op_texts, stage_diffs
from effcomp.report.drawing import Drawing, draw, short_title
from effcomp.report.schema import GraphReport, GroupReport, KernelReport, Report, StageReport
from effcomp.report.units import show_bytes, show_flops, show_seconds

PAGE = Path(__file__).parent / "page"
KINDS = {"kernel": "Triton kernels", "region": "compiled regions", "library": "library calls"}
# What JSON may hold and HTML would act on inside a script element.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole, for a bar: its share and what it says."""

    label: str
    value: str
    share: float
    style: str


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A kernel of the list, and the facts known of it."""

    index: int
    report: KernelReport
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphPage:
    """Everything the template shows of one graph."""

    report: GraphReport
    drawing: Drawing
    heat: tuple[float, ...]  # for each node its time over the costliest node's
    legend: tuple[tuple[str, str], ...]
    rows: tuple[Alike, ...]
    roofline: Roofline | None
    memory: MemoryMap | None
    diffs: tuple[tuple[Hunk, ...], ...]
    kernels: tuple[KernelRow, ...]
    kinds: tuple[Part, ...]
    bounds: tuple[Part, ...]
    places: tuple[Part, ...]
    compile_parts: tuple[Part, ...]
    compile_seconds: float
    seconds: float
    estimate: float
    measured: bool
    applied: Mapping[tuple[str, str], str]  # by pass and rule, the first lines it applied at
    slowest: StageReport | None
    last_ops: int
    most_ops: int


def render(report: Report) -> str:
    """The page. What a model says of itself (names, lines, sources) is shown, never run."""
    pages = [_graph_page(graph) for graph in report.graphs]
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            graphs=pages,
            style=(PAGE / "style.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=f"sha256-{digest}",
            data=script_data([_data(report, page) for page in pages]),
            chart={
                "width": charts.WIDTH,
                "height": charts.HEIGHT,
                "left": charts.LEFT,
                "right": charts.WIDTH - charts.RIGHT,
                "top": charts.TOP,
                "floor": charts.HEIGHT - charts.BOTTOM,
            },
        )
    )


def script_data(data: Any) -> str:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.translate(str.maketrans(_ESCAPES))


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "bytes": show_bytes,
        "flops": show_flops,
        "seconds": show_seconds,
        "rate": charts.show_rate,
        "title": short_title,
        "pass_name": _pass_name,
        "pass_options": _pass_options,
    }
    found.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]
    return found


def _pass_name(spec: str) -> str:
    return spec.partition("{")[0]


def _pass_options(spec: str) -> str:
    return spec.partition("{")[2].removesuffix("}")


def _graph_page(graph: GraphReport) -> GraphPage:
    drawing = draw(graph)
    rows = charts.alike(graph)
    groups = graph.groups
    stages = graph.stages
    times = [
        sum(seconds_of(groups[s]) for s in (*n.steps, *(s for r in n.repeats for s in r)))
        for n in drawing.nodes
    ]
    most = max(times, default=0.0) or 1.0
    seconds = {name: value for name, value in graph.seconds.items() if name != "plan"}
    kinds = [kind for kind in KINDS if any(group.kind == kind for group in groups)]
    return GraphPage(
        report=graph,
        drawing=drawing,
        heat=tuple(time / most for time in times),
        legend=tuple((kind, KINDS[kind]) for kind in kinds),
        rows=rows,
        roofline=charts.roofline(rows, graph.roofs),
        memory=charts.memory_map(graph.memory, len(groups)),
        diffs=stage_diffs(stages),
        kernels=_kernel_rows(graph),
        kinds=_parts(
            ((KINDS[k], sum(1.0 for g in groups if g.kind == k), k) for k in kinds),
            lambda n: f"{n:.0f}",
        ),
        bounds=_bounds(graph),
        places=_places(graph),
        compile_parts=_parts(
            ((name, value, f"c{i % 4}") for i, (name, value) in enumerate(seconds.items())),
            show_seconds,
        ),
        compile_seconds=sum(seconds.values()),
        seconds=sum(map(seconds_of, groups)),
        estimate=sum(group.estimate for group in groups),
        measured=any(group.measured is not None for group in groups),
        applied={(m.stage, m.rule): ", ".join(m.locs) for m in graph.places if m.locs},
        slowest=max(stages, key=lambda stage: stage.seconds, default=None),
        last_ops=stages[-1].ops if stages else graph.total,
        most_ops=max((stage.ops for stage in stages), default=1) or 1,
    )


def _bounds(graph: GraphReport) -> tuple[Part, ...]:
    """Where the time of a call goes."""
    found = {"memory": 0.0, "arithmetic": 0.0, "launch": 0.0}
    for group in graph.groups:
        found[bound_of(group, graph.roofs)] += seconds_of(group)
    names = {"memory": "bound by memory", "arithmetic": "by arithmetic", "launch": "by launches"}
    return _parts(((names[k], value, k) for k, value in found.items()), show_seconds)


def _places(graph: GraphReport) -> tuple[Part, ...]:
    memory = graph.memory
    outputs = sum(h.bytes for h in memory.holdings if h.place == "output")
    rest = max(0, memory.peak_bytes - memory.arena_bytes - outputs)
    sized = (("arena", memory.arena_bytes), ("outputs", outputs), ("operators' results", rest))
    styles = ("arena", "output", "call")
    return _parts(
        ((name, float(size), style) for (name, size), style in zip(sized, styles, strict=True)),
        show_bytes,
    )


def _parts(
    parts: Iterable[tuple[str, float, str]], show: Callable[[float], str]
) -> tuple[Part, ...]:
    known = [part for part in parts if part[1] > 0]
    whole = sum(value for _, value, _ in known) or 1.0
    return tuple(Part(label, show(value), value / whole, style) for label, value, style in known)


def _kernel_rows(graph: GraphReport) -> tuple[KernelRow, ...]:
    rows: list[KernelRow] = []
    for i, kernel in enumerate(graph.kernels):
        facts = [f"{kernel.launches} launch{'es' if kernel.launches != 1 else ''}"]
        if kernel.kind == "triton":
            facts.append(f"{kernel.options.get('num_warps', '?')} warps")
        facts += _resources(kernel)
        facts.append(f"{len(kernel.source.splitlines())} lines")
        rows.append(KernelRow(i, kernel, tuple(facts)))
    return tuple(sorted(rows, key=lambda row: -row.report.launches))


def _resources(kernel: KernelReport) -> list[str]:
    found: list[str] = []
    if kernel.registers is not None:
        found.append(f"{kernel.registers} registers")
    if kernel.stack_bytes:
        found.append(f"{show_bytes(kernel.stack_bytes)} of stack")
    if kernel.shared_bytes:
        found.append(f"{show_bytes(kernel.shared_bytes)} shared")
    return found


# What the script needs: plain data, read from a JSON element.


def _data(report: Report, page: GraphPage) -> dict[str, Any]:
    graph, drawing = page.report, page.drawing
    node_of = {
        step: i
        for i, node in enumerate(drawing.nodes)
        for step in (*node.steps, *(s for repeat in node.repeats for s in repeat))
    }
    digests = {kernel.digest: i for i, kernel in enumerate(graph.kernels)}
    text = next((stage.text for stage in reversed(graph.stages) if stage.text), "")
    texts = op_texts(text)
    lines = {source.file: source.lines for source in report.sources}
    return {
        "steps": [
            _step(group, node_of.get(i, -1), digests.get(group.runs, -1), page, lines)
            for i, group in enumerate(graph.groups)
        ],
        "nodes": [
            {
                "title": node.title,
                "detail": node.detail,
                "kind": node.kind,
                "steps": node.steps,
                "repeats": node.repeats,
                "text": texts[node.op] if 0 <= node.op < len(texts) else "",
            }
            for node in drawing.nodes
        ],
        "kernels": [
            {
                "name": kernel.function,
                "kind": kernel.kind,
                "source": kernel.source,
                "options": [*kernel.options.items()],
                "facts": _resources(kernel),
            }
            for kernel in graph.kernels
        ],
        "hunks": [[_hunk(hunk) for hunk in hunks] for hunks in page.diffs],
    }


def _step(
    group: GroupReport,
    node: int,
    kernel: int,
    page: GraphPage,
    lines: Mapping[str, Mapping[int, str]],
) -> dict[str, Any]:
    file, _, number = group.loc.rpartition(":")
    line = lines.get(file, {}).get(int(number), "") if number.isdigit() else ""
    return {
        "node": node,
        "kernel": kernel,
        "label": group.label,
        "title": short_title(group),
        "kind": group.kind,
        "ops": " ".join(group.ops),
        "loc": group.loc,
        "line": line,
        "scope": group.scope,
        "runs": group.runs,
        "grid": group.grid,
        "bytes": show_bytes(group.bytes),
        "flops": show_flops(group.flops),
        "estimate": show_seconds(group.estimate),
        "measured": "" if group.measured is None else show_seconds(group.measured),
        "share": seconds_of(group) / (page.seconds or 1.0),
        "bound": bound_of(group, page.report.roofs),
    }


def _hunk(hunk: Hunk) -> dict[str, Any]:
    return {
        "at": hunk.at,
        "alike": hunk.alike,
        "lines": [f"{line.sign}{line.text}" for line in hunk.lines],
    }
