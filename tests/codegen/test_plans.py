"""What plans look like: buffers, lifetimes, fallbacks, errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.errors import LoweringError
from effcomp.ir import ResultView, TensorType, parse_graph
from effcomp.ir.dims import symbol
from effcomp.plan.schema import (
    ArenaPlace,
    Buffer,
    CallPlace,
    CallStep,
    Launch,
    OutputPlace,
    Plan,
    RegionKernel,
    TensorSpec,
    ViewPlace,
)
from effcomp.plan.text import print_plan
from effcomp.reference import region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from tests.codegen.agree import agree, lower

FOLDER = Path(__file__).parent
GRAPHS = sorted((FOLDER / "graphs").glob("*.eff"))


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_goldens(
    path: Path, target: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    _, plan, _ = lower(path.read_text(), target, monkeypatch)
    golden = FOLDER / "plans" / f"{path.stem}.{target.partition(':')[0]}.txt"
    if pytestconfig.getoption("--update-golden"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(print_plan(plan))
    assert print_plan(plan) == golden.read_text()


def graph(body: str, params: str = "%x: f32[s0, 8]") -> str:
    return f"graph @g({params}) {{\n{body}\n}}\n"


def unary(result: str, operand: str, op: str = "exp", shape: str = "s0, 8") -> str:
    return f"""
  %{result} = fused.pointwise(%{operand}) : f32[{shape}] @{op}(%a: f32[{shape}]) {{
    %y.0 = tensor.{op}(%a) : f32[{shape}]
    return %y.0
  }}"""


CHAIN = graph(unary("a.0", "x") + unary("b.1", "a.0") + unary("c.2", "b.1") + "\n  return %c.2")


def places(plan: Plan, kind: type) -> list[str]:
    return [b.name for b in plan.buffers if isinstance(b.place, kind)]


def test_results_are_outputs_views_of_memory_and_nothing() -> None:
    s0 = symbol("s0")
    rows = ResultView("output", 0, TensorType("i32", (s0 - 1, 8)), (8, 1), 8)
    column = ResultView("param", 0, TensorType("f32", (s0,)), (8,), 3)
    results = (rows, None, 0, column, rows)
    plan = lower_graph(parse_graph(CHAIN), TARGETS["cpu"], region_of=region_of, results=results)
    returned = [None if ref.buffer is None else plan.buffers[ref.buffer] for ref in plan.outputs]
    out, place = returned[2], plan.outputs[2].buffer
    assert out is not None
    assert out.place == OutputPlace()
    assert returned[0] == Buffer(
        TensorSpec("i32", ("s0 - 1", 8), (8, 1)), ViewPlace(place, 8), out.name
    )
    assert returned[3] == Buffer(TensorSpec("f32", ("s0",), (8,)), ViewPlace(0, 3), "x")
    assert returned[1] is None
    assert plan.outputs[4] == plan.outputs[0]
    x = torch.randn(3, 8)
    found, _, whole, part, _ = load(plan, torch.device("cpu"), regions="never")([x])
    assert torch.equal(found, whole[1:].view(torch.int32))
    assert part.data_ptr() == x[0, 3].data_ptr()


def test_a_chain_on_a_gpu_reuses_one_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = agree(CHAIN, "cuda:90", monkeypatch)
    assert places(plan, ArenaPlace) == ["a"]
    (taken,) = [b for b in plan.buffers if isinstance(b.place, ViewPlace)]
    assert taken.name == "b"
    assert [b.place for b in plan.buffers if b.name == "a"] == [ArenaPlace(0, 2)]
    assert places(plan, OutputPlace) == ["c"]


def test_regions_hand_on_what_they_return(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = agree(CHAIN, "cpu", monkeypatch)
    assert places(plan, CallPlace) == ["a", "b"]
    assert len(plan.kernels) == 1, "equal regions are one kernel"


def test_regions_of_other_columns_are_one_region(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(result: str, start: int) -> str:
        return f"""
  %{result} = fused.pointwise(%x) : f32[s0, 4] @half(%a: f32[s0, 8]) {{
    %h.0 = tensor.slice(%a) {{dim = 1, start = {start}, stop = {start + 4}}} : f32[s0, 4]
    %y.1 = tensor.exp(%h.0) : f32[s0, 4]
    return %y.1
  }}"""

    text = graph(half("l.0", 0) + half("r.1", 4) + "\n  return %l.0, %r.1")
    plan = agree(text, "cpu", monkeypatch)
    (kernel,) = plan.kernels
    assert isinstance(kernel, RegionKernel)
    assert [call.target for call in kernel.calls] == ["aten.exp.default"]
    views = [b for b in plan.buffers if isinstance(b.place, ViewPlace)]
    assert [(v.spec.strides, v.place.offset) for v in views] == [((8, 1), 0), ((8, 1), 4)]  # pyright: ignore[reportAttributeAccessIssue]


def test_an_operand_read_elsewhere_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    flip = """
  %b.1 = fused.pointwise(%a.0) : f32[s0, 8] @flip(%a: f32[s0, 8]) {
    %f.0 = tensor.flip(%a) {dims = [0]} : f32[s0, 8]
    %y.1 = tensor.add(%f.0, %a) : f32[s0, 8]
    return %y.1
  }"""
    plan = agree(
        graph(unary("a.0", "x") + flip + unary("c.2", "b.1") + "\n  return %c.2"),
        "cuda:90",
        monkeypatch,
    )
    assert places(plan, ArenaPlace) == ["a", "b"]


def test_an_operand_seen_twice_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group reads one memory as two operands, under two index maps."""
    text = graph(
        unary("a.0", "x", shape="8, 8")
        + """
  %t.1 = tensor.permute(%a.0) {dims = [1, 0]} : f32[8, 8]
  %b.2 = fused.pointwise(%a.0, %t.1) : f32[8, 8] @add(%a: f32[8, 8], %t: f32[8, 8]) {
    %y.0 = tensor.add(%a, %t) : f32[8, 8]
    return %y.0
  }"""
        + unary("c.3", "b.2", shape="8, 8")
        + "\n  return %c.3",
        "%x: f32[8, 8]",
    )
    assert places(agree(text, "cuda:90", monkeypatch), ArenaPlace) == ["a", "b"]


def test_an_operand_read_later_is_not_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    text = graph(
        unary("a.0", "x")
        + unary("b.1", "a.0")
        + """
  %c.2 = fused.pointwise(%a.0, %b.1) : f32[s0, 8] @sub(%a: f32[s0, 8], %b: f32[s0, 8]) {
    %y.0 = tensor.sub(%a, %b) : f32[s0, 8]
    return %y.0
  }
  return %c.2"""
    )
    assert places(agree(text, "cuda:90", monkeypatch), ArenaPlace) == ["a", "b"]


def test_what_a_call_returned_may_keep_its_operand_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """aten.unfold returns a view: its operand's memory is read as long as the result is."""
    path = FOLDER / "graphs" / "calls.eff"
    plan = agree(path.read_text(), "cuda:90", monkeypatch)
    (unfolded,) = [s for s in plan.steps if isinstance(s, CallStep) and s.call.results == (6,)]
    (operand,) = [a.id for a in unfolded.call.args if a.kind == "buffer"]
    place = plan.buffers[operand].place
    assert isinstance(place, ArenaPlace)
    assert isinstance(plan.steps[place.last], Launch)


def test_results_that_are_only_written_are_computed_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = graph(unary("a.0", "x") + "\n  state.write(%x, %a.0) : none\n  return")
    plan = agree(text, "cuda:90", monkeypatch)
    assert len(plan.steps) == 1
    assert plan.ports[0].mutated
    assert [type(s) for s in agree(text, "cpu", monkeypatch).steps][1:] == [CallStep]


@pytest.mark.parametrize(
    "reader", [unary("b.1", "x") + "\n  state.write(%x, %a.0) : none\n  return %b.1"]
)
def test_a_param_read_later_is_not_written_early(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = agree(graph(unary("a.0", "x") + reader), "cuda:90", monkeypatch)
    assert any(isinstance(s, CallStep) for s in plan.steps), "the write is a copy of its own"


def test_one_refused_product_keeps_its_epilogue_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / "graphs" / "epilogue-shapes.eff"
    plan = agree(
        path.read_text(), "cuda:90", monkeypatch, refuses=lambda op: op.name == "fused.matmul"
    )
    assert [type(s) for s in plan.steps] == [CallStep, Launch, Launch]
    (note,) = plan.notes
    assert "the test says so" in note


def test_costs_are_of_whole_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / "graphs" / "mlp.eff"
    _, plan, _ = lower(path.read_text(), "cuda:90", monkeypatch)
    assert [cost.ops for cost in plan.costs] == [("nn.linear",), ("nn.gelu",), ("nn.linear",)]
    assert plan.costs[0].flops == "1024*s0"


def test_a_size_that_stands_alone_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    text = graph(unary("a.0", "x", shape="2*s0, 8") + "\n  return %a.0", "%x: f32[2*s0, 8]")
    with pytest.raises(LoweringError, match="no argument of @g tells the size s0"):
        lower(text, "cpu", monkeypatch)


def test_a_prologue_reads_only_params(monkeypatch: pytest.MonkeyPatch) -> None:
    prologue = """
  %w.1 = state.prologue(%a.0) : f32[s0, 8] @weights(%q: f32[s0, 8]) {
    %n.0 = tensor.neg(%q) : f32[s0, 8]
    return %n.0
  }
  return %w.1"""
    text = graph(unary("a.0", "x") + prologue)
    with pytest.raises(LoweringError, match=re.escape("%a, which is no parameter")):
        lower(text, "cpu", monkeypatch)


def test_alike_groups_are_emitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = unary("a.0", "x") + unary("b.1", "a.0") + unary("c.2", "b.1", "neg")
    _, plan, emitter = lower(graph(body + "\n  return %c.2"), "cuda:90", monkeypatch)
    assert len([s for s in plan.steps if isinstance(s, Launch)]) == 3
    assert emitter.calls == 2 * 2  # `lower` lowers twice
