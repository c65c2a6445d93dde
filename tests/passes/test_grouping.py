"""The machinery of groups: cycles, order, copies, rows, layouts, costs."""

import random
from dataclasses import replace

import networkx as nx
import pytest

from effcomp.ir import SPECS, Graph, Level, TensorType, Value, parse_graph, verify
from effcomp.ir.dims import symbol
from effcomp.passes.fuse_epilogue import FuseEpilogue
from effcomp.passes.fuse_pointwise import FusePointwise
from effcomp.passes.fuse_rowwise import FuseRowwise
from effcomp.passes.grouping import Facts, GroupGraph
from effcomp.passes.grouping.layouts import Layouts
from effcomp.passes.grouping.rows import matching_blocks
from effcomp.rewrite import Log, Pipeline
from effcomp.target import TARGETS

RANDOM = 'target = "aten.bernoulli.default", args = [#0], types = ["f32[8]"], effects = true'
FUSION = Pipeline((FuseRowwise(), FuseEpilogue(), FusePointwise()))


def test_merging_never_makes_a_cycle_and_keeps_an_order() -> None:
    generator = random.Random(0)
    for _ in range(60):
        count = generator.randint(3, 25)
        edges = [
            (a, b) for a in range(count) for b in range(a + 1, count) if generator.random() < 0.15
        ]
        groups = GroupGraph(range(count), edges)
        owner = list(range(count))
        for _ in range(40):
            if len(set(owner)) < 2:
                break
            a, b = generator.sample(sorted(set(owner)), 2)
            merged = [a if o == b else o for o in owner]
            after = nx.DiGraph({(merged[x], merged[y]) for x, y in edges if merged[x] != merged[y]})
            legal = nx.is_directed_acyclic_graph(after)
            assert groups.may_merge({a, b}) == legal
            assert groups.merge(a, b) == legal
            if legal:
                owner = merged
            place = {n: i for i, n in enumerate(groups.order())}
            assert set(place) == set(owner)
            assert all(place[owner[x]] < place[owner[y]] for x, y in edges if owner[x] != owner[y])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((6, 4), (2, 3, 4), [((0,), (0, 1)), ((1,), (2,))]),
        ((2, 3, 4), (6, 4), [((0, 1), (0,)), ((2,), (1,))]),
        ((4, 6), (6, 4), [((0, 1), (0, 1))]),
        ((4, 3), (4, 1, 3), [((0,), (0,)), ((1,), (1, 2))]),
        ((8, 32, 40), (8, 320, 4), [((0,), (0,)), ((1, 2), (1, 2))]),
    ],
)
def test_blocks_of_a_reshape(
    old: tuple[int, ...], new: tuple[int, ...], expected: list[tuple[tuple[int, ...], ...]]
) -> None:
    found = [(tuple(a), tuple(b)) for a, b in matching_blocks(old, new) if len(a) or len(b)]
    assert found == expected


def test_blocks_of_symbolic_sizes() -> None:
    s0, s1 = symbol("s0"), symbol("s1")
    found = matching_blocks((s0, s1, 64), (s0 * s1, 8, 8))
    assert [(tuple(a), tuple(b)) for a, b in found] == [((0, 1), (0,)), ((2,), (1, 2))]


@pytest.mark.parametrize(
    ("views", "shown"),
    [
        (("permute", "slice"), True),
        (("permute", "reshape"), False),
        (("slice", "permute"), True),
        (("flip",), False),
    ],
)
def test_which_views_memory_shows(views: tuple[str, ...], shown: bool) -> None:
    attrs = {
        "permute": {"dims": (1, 0)},
        "slice": {"dim": 0, "stop": 2},
        "reshape": {"shape": (32,)},
        "flip": {"dims": (0,)},
    }
    value, layouts, found = Value(TensorType("f32", (4, 8))), Layouts(), True
    for name in views:
        op = SPECS[f"tensor.{name}"].build(value, **attrs[name])  # pyright: ignore[reportArgumentType]
        value, found = op.result, layouts.follow(op)
    assert found == shown


def chain(length: int) -> Graph:
    x = Value(TensorType("f32", (64, 64)), "x")
    value, ops = x, list[object]()
    for i in range(length):
        op = SPECS["tensor.add"].build(value, x) if i % 2 else SPECS["nn.silu"].build(value)
        ops.append(op)
        value = op.result
    return Graph("chain", (x,), tuple(ops), (value,))  # pyright: ignore[reportArgumentType]


def test_a_long_chain_becomes_few_groups() -> None:
    graph = chain(2000)
    after = FUSION.run(graph).graph
    assert {op.name for op in after.ops} == {"fused.pointwise"}
    assert len(after.ops) <= 25
    inside = sum(1 for op in after.walk() if op.body is None)
    assert inside == 2000


def test_a_long_chain_of_views_is_no_deep_recursion() -> None:
    x = Value(TensorType("f32", (4, 8)), "x")
    value, ops = x, list[object]()
    for _ in range(1500):
        op = SPECS["tensor.permute"].build(value, dims=(1, 0))
        ops.append(op)
        value = op.result
    last = SPECS["tensor.neg"].build(value)
    graph = Graph("views", (x,), (*ops, last), (last.result,))  # pyright: ignore[reportArgumentType]
    verify(FUSION.run(graph).graph, Level.KERNEL)


def test_effects_keep_their_order() -> None:
    graph = parse_graph(
        """graph @g(%a: f32[8], %b: f32[8], %x: f32[8]) {
  %0 = tensor.neg(%x) : f32[8]
  state.write(%a, %0) : none
  %1 = aten.call(%x) {CALL} : f32[8]
  %2 = tensor.exp(%1) : f32[8]
  state.write(%b, %2) : none
  %3 = tensor.add(%0, %2) : f32[8]
  return %3
}""".replace("CALL", RANDOM)
    )
    after = FUSION.run(graph).graph
    effects = [op.name for op in after.ops if not op.name.startswith("fused")]
    assert effects == ["state.write", "aten.call", "state.write"]


def test_a_read_of_a_cache_stays_before_its_write() -> None:
    """`old` could join `new` only after the write: it does not."""
    graph = parse_graph("""graph @g(%cache: f32[8, 4], %x: f32[2, 4], %i: i64[2], %w: f32[4, 4]) {
  %old = tensor.neg(%cache) : f32[8, 4]
  %new = state.index_put(%cache, %x, %i) {dims = [0]} : f32[8, 4]
  %l = nn.linear(%new, %w) : f32[8, 4]
  %sum = tensor.add(%old, %l) : f32[8, 4]
  return %sum
}""")
    names = [op.name for op in FUSION.run(graph).graph.ops]
    assert names.index("fused.pointwise") < names.index("state.index_put")


def test_a_view_of_a_cache_is_not_copied_past_a_write() -> None:
    graph = parse_graph("""graph @g(%cache: f32[8, 4], %x: f32[8, 4]) {
  %v = tensor.slice(%cache) {dim = 0, stop = 2} : f32[2, 4]
  %n = tensor.neg(%v) : f32[2, 4]
  state.write(%cache, %x) : none
  %e = tensor.exp(%n) : f32[2, 4]
  return %e
}""")
    after = FUSION.run(graph).graph
    assert [op.name for op in after.ops] == ["fused.pointwise", "state.write"]
    assert 0 not in Facts(graph).copied


def test_complex_numbers_are_left_to_the_library() -> None:
    graph = parse_graph("""graph @g(%x: c64[4], %y: f32[4]) {
  %0 = tensor.mul(%x, %x) : c64[4]
  %1 = tensor.neg(%y) : f32[4]
  return %0, %1
}""")
    after = FUSION.run(graph).graph
    verify(after, Level.KERNEL)
    assert [op.name for op in after.ops] == ["tensor.mul", "fused.pointwise"]


def test_groups_run_once_stay_as_they_are() -> None:
    once = FUSION.run(chain(10)).graph
    for one in FUSION.passes:
        assert one.run(once, Log()) is once


def test_a_group_holds_a_bounded_number_of_operands() -> None:
    x = Value(TensorType("f32", (64,)), "x")
    params = [replace(x, hint=f"p{i}") for i in range(60)]
    value, ops = x, list[object]()
    for p in params:
        op = SPECS["tensor.add"].build(value, p)
        ops.append(op)
        value = op.result
    after = FUSION.run(Graph("wide", (x, *params), tuple(ops), (value,))).graph  # pyright: ignore[reportArgumentType]
    assert len(after.ops) == 3
    assert all(len(op.operands) <= 24 for op in after.ops)


def test_the_target_decides_on_epilogues() -> None:
    """On a CPU the product is the library's either way, so its epilogue is free."""
    graph = parse_graph("""graph @g(%x: bf16[8192, 4096], %w: bf16[4096, 4096]) {
  %l = nn.linear(%x, %w) : bf16[8192, 4096]
  %o = nn.silu(%l) : bf16[8192, 4096]
  return %o
}""")
    log = Log()
    assert FuseEpilogue(TARGETS["cuda:90"]).run(graph, log) is graph
    assert log.refusals[0].reason.startswith("costs more: ")
    (op,) = FuseEpilogue(TARGETS["cpu"]).run(graph, Log()).ops
    assert op.name == "fused.matmul"
