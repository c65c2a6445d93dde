"""Repeats, layers, diffs and figures: what the page is drawn from."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcomp.report.charts import alike, bound_of, memory_map, roofline, show_decade, show_rate
from effcomp.report.diffs import diff, op_texts, stage_diffs
from effcomp.report.drawing import draw
from effcomp.report.folding import find_repeats
from effcomp.report.layered import NODE_GAP, place
from effcomp.report.schema import Report, ValueReport
from tests.report.stacked import BLOCKS


def test_repeats_are_found_where_blocks_begin() -> None:
    items = "abcd" + "xyzw" * 4 + "xy"
    starts = [i in (6, 10, 14, 18) for i in range(len(items))]
    (repeat,) = find_repeats(items, starts)
    assert (repeat.start, repeat.period, repeat.count) == (6, 4, 4)


def test_short_stretches_are_blocks_only_if_modules_begin_in_them() -> None:
    assert find_repeats("abcqqqabcqqqd", [False] * 13) == ()
    (repeat,) = find_repeats("pabcabcabcd", [i in (1, 4, 7) for i in range(11)])
    assert (repeat.start, repeat.period, repeat.count) == (1, 3, 3)


def test_two_blocks_are_no_repeat() -> None:
    assert find_repeats("abcdabcd", [True] * 8) == ()


@given(st.text("ab", max_size=60))
def test_repeats_are_what_they_say_and_never_overlap(text: str) -> None:
    repeats = find_repeats(text, [False] * len(text))
    for one in repeats:
        first = text[one.start : one.start + one.period]
        assert text[one.start : one.end] == first * one.count
    for a, b in itertools.pairwise(repeats):
        assert a.end <= b.start


@st.composite
def layerings(draw_: st.DrawFn) -> tuple[list[int], set[tuple[int, int]]]:
    """Layers of nodes, and edges from earlier layers to later ones."""
    depth = draw_(st.integers(1, 5))
    layers = sorted([*range(depth), *draw_(st.lists(st.integers(0, depth - 1), max_size=10))])
    pairs = [(a, b) for a in range(len(layers)) for b in range(a) if layers[b] < layers[a]]
    chosen = draw_(st.sets(st.sampled_from(pairs), max_size=15)) if pairs else set()
    return layers, {(b, a) for a, b in chosen}


@given(layerings())
def test_nodes_of_a_layer_do_not_overlap(given_: tuple[list[int], set[tuple[int, int]]]) -> None:
    layers, edges = given_
    widths = [40.0 + 10 * (i % 3) for i in range(len(layers))]
    found = place(widths, [20.0] * len(layers), layers, edges, [30.0] * (max(layers) + 1))
    for layer in set(layers):
        row = sorted((found.centres[i].x, widths[i]) for i, n in enumerate(layers) if n == layer)
        for (x, width), (y, other) in itertools.pairwise(row):
            assert y - x >= (width + other) / 2 + NODE_GAP - 1e-6
    for (source, target), route in found.routes.items():
        assert len(route) == layers[target] - layers[source] + 1
        assert all(a.y < b.y for a, b in itertools.pairwise(route))


@pytest.mark.parametrize("name", ["cpu_report", "gpu_report"])
def test_equal_blocks_are_drawn_once(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    (graph,) = report.graphs
    drawing = draw(graph)
    (folded,) = [cluster for cluster in drawing.clusters if cluster.count > 1]
    assert folded.count in (BLOCKS, BLOCKS - 1)
    assert folded.title.startswith("blocks.")
    drawn = [s for n in drawing.nodes for s in itertools.chain(n.steps, *n.repeats)]
    assert sorted(drawn) == list(range(len(graph.groups)))
    assert all(edge.source < edge.target for edge in drawing.edges)
    assert all(box.x >= 0 and box.x + box.width <= drawing.width for box in drawing.boxes)
    reached = {edge.target for edge in drawing.edges}
    assert {i for i, n in enumerate(drawing.nodes) if n.kind != "input"} <= reached


def test_a_graph_without_a_program_draws_nothing(cpu_report: Report) -> None:
    (graph,) = cpu_report.graphs
    program = replace(graph.program, params=(), ops=(), outputs=())
    assert draw(replace(graph, program=program)).nodes == ()


def test_a_diff_overlooks_numbers_that_only_count() -> None:
    before = "%a.0 = x.f(%p)\n%b.1 = x.g(%a.0)\n%c.2 = x.h(%b.1)"
    after = "%a.0 = x.f(%p)\n%c.1 = x.h(%a.0)"
    (hunk,) = diff(before, after)
    shown = [f"{line.sign}{line.text}" for line in hunk.lines if line.sign != " "]
    assert shown == ["-%b.1 = x.g(%a.0)", "-%c.2 = x.h(%b.1)", "+%c.1 = x.h(%a.0)"]
    assert diff("%a.3 = x.f(%1)", "%a.4 = x.f(%2)") == ()


def test_equal_changes_are_shown_once() -> None:
    block = [f"keep {i}" for i in range(8)]
    before = "\n".join(line for n in range(3) for line in (f"%x.{n} = drop layers.{n}", *block))
    after = "\n".join(block * 3)
    (hunk,) = diff(before, after)
    assert (hunk.at, len(hunk.alike)) == (1, 2)


def test_the_texts_of_ops_follow_the_program(gpu_report: Report) -> None:
    (graph,) = gpu_report.graphs
    last = next(stage.text for stage in reversed(graph.stages) if stage.text)
    texts = op_texts(last)
    assert len(texts) == len(graph.program.ops)
    for text, op in zip(texts, graph.program.ops, strict=True):
        assert f"{op.name}(" in text.splitlines()[0]
        assert (op.body is not None) == text.endswith("}")
    changed = [bool(hunks) for hunks in stage_diffs(graph.stages)]
    assert any(changed)
    assert all(stage.changed for stage, one in zip(graph.stages, changed, strict=True) if one)


def test_figures_stay_inside_their_frame(gpu_report: Report) -> None:
    (graph,) = gpu_report.graphs
    rows = alike(graph)
    assert sum(len(row.steps) for row in rows) == len(graph.groups)
    assert sum(row.share for row in rows) == pytest.approx(1)
    plot = roofline(rows, graph.roofs)
    assert plot is not None
    # No step reaches more than its roof: that is what makes it one.
    for dot in plot.dots:
        rate = graph.roofs.matrix_rate if dot.row.first.matrix else graph.roofs.vector_rate
        assert dot.rate <= min(rate, dot.intensity * graph.roofs.bandwidth)
    memory = memory_map(graph.memory, len(graph.groups))
    assert memory is not None
    for a, b in itertools.combinations(memory.blocks, 2):
        apart = a.x + a.width <= b.x + 1e-6 or b.x + b.width <= a.x + 1e-6
        above = a.y + a.height <= b.y + 1e-6 or b.y + b.height <= a.y + 1e-6
        assert apart or above, f"{a.held.name} and {b.held.name} share memory"


def test_what_bounds_a_step(gpu_report: Report) -> None:
    (graph,) = gpu_report.graphs
    group = replace(graph.groups[0], bytes=0, flops=0, matrix=False)
    assert bound_of(group, graph.roofs) == "launch"
    assert bound_of(replace(group, bytes=10**9), graph.roofs) == "memory"
    assert bound_of(replace(group, flops=10**12), graph.roofs) == "arithmetic"


def test_rates_have_prefixes() -> None:
    assert [show_decade(d, "FLOP/s") for d in (-1, 0, 4, 12)] == [
        "0.1 FLOP/s", "1 FLOP/s", "10 kFLOP/s", "1 TFLOP/s",
    ]  # fmt: skip
    assert show_rate(4.26e12, "B/s") == "4.26 TB/s"


def test_inputs_stand_by_the_block_that_reads_them(gpu_report: Report) -> None:
    """A cache for each block: those of the blocks that are not drawn are not drawn either."""
    (graph,) = gpu_report.graphs
    program = graph.program
    caches = tuple(ValueReport(f"cache_{i}", "f32[3, 16]") for i in range(BLOCKS))
    ops = tuple(
        replace(op, reads=(*op.reads, f"cache_{op.scope.split('.')[1]}"))
        if op.scope.endswith(".down")
        else op
        for op in program.ops
    )
    program = replace(program, params=(*program.params, *caches), ops=ops)
    drawing = draw(replace(graph, program=program))
    drawn = {node.title: box for node, box in zip(drawing.nodes, drawing.boxes, strict=True)}
    (folded,) = [cluster.box for cluster in drawing.clusters if cluster.count > 1]
    shown = [title for title in drawn if title.startswith("cache_")]
    assert len(shown) == 1
    assert folded.y < drawn[shown[0]].y < folded.y + folded.height
    assert drawn["x"].y < folded.y
