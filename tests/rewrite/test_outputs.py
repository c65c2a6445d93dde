"""Rules that replace several results at once: what they find, where the new ops go, what stops."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings

from effcomp.ir import Graph, Value, parse_graph, print_graph, verify
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import nn, reduction, view
from effcomp.reference import evaluate
from effcomp.rewrite import (
    Builder,
    Log,
    Match,
    Pattern,
    Refused,
    Rule,
    apply_rules,
    maybe_var,
    outputs,
    pat,
    var,
)
from tests.ir.random_graphs import Program, random_programs

LINEARS = """graph @g(%x: f32[4, 8], %wq: f32[8, 8], %wk: f32[8, 8], %wv: f32[16, 8]) {
  %0 = nn.linear(%x, %wq) : f32[4, 8] loc "m.py:1"
  %1 = tensor.neg(%0) : f32[4, 8]
  %2 = tensor.convert(%wk) {dtype = "f32"} : f32[8, 8]
  %3 = nn.linear(%x, %2) : f32[4, 8]
  %4 = nn.linear(%x, %wv) : f32[4, 16]
  %5 = tensor.add(%1, %3) : f32[4, 8]
  return %5, %4
}
"""


def applied(graph: Graph, rule: Rule[None], log: Log | None = None) -> Graph:
    verify(graph)
    after = apply_rules(graph, [rule], log or Log())
    verify(after)
    return after


@dataclass(frozen=True)
class JoinLinears(Rule[None]):
    """linear(x, q), linear(x, k), linear(x, v) => slices of linear(x, concat(q, k, v))."""

    def pattern(self) -> Pattern:
        return outputs(*(pat(nn.linear, var("x"), var(w)) for w in "qkv"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
        weights = [m[w] for w in "qkv"]
        wide = b.add(nn.linear, m["x"], b.add(view.concat, *weights, dim=0))
        parts: list[Value] = []
        start = 0
        for weight in weights:
            rows = weight.shape[0]
            assert isinstance(rows, int)
            parts.append(b.add(view.slice_, wide, dim=1, start=start, stop=start + rows))
            start += rows
        return tuple(parts)


def test_several_linears_become_one_and_what_they_read_moves_up() -> None:
    log = Log()
    after = applied(parse_graph(LINEARS), JoinLinears(), log)
    names = [op.name for op in after.ops]
    assert names.count("nn.linear") == 1
    assert names.index("tensor.convert") < names.index("nn.linear") < names.index("tensor.neg")
    assert log.counts == {"JoinLinears": 1}
    assert [v.shape for v in after.outputs] == [(4, 8), (4, 16)]


def test_results_that_depend_on_each_other_stay_apart() -> None:
    text = LINEARS.replace("nn.linear(%x, %2)", "nn.linear(%1, %2)")
    text = text.replace("%2 = tensor.convert(%wk)", "%2 = tensor.convert(%wq)")
    graph = parse_graph(text.replace("nn.linear(%x, %wv)", "nn.linear(%3, %wv)"))
    assert applied(graph, JoinLinears()) is graph

    # Here all three read x, and one weight is made from another's result.
    text = LINEARS.replace("tensor.convert(%wk) {dtype", "tensor.convert(%9) {dtype")
    text = text.replace("  %2 =", "  %8 = nn.linear(%wk, %wk) : f32[8, 8]\n"
                        "  %7 = tensor.broadcast(%6) {shape = [8, 8]} : f32[8, 8]\n"
                        "  %9 = tensor.add(%7, %8) : f32[8, 8]\n  %2 =")  # fmt: skip
    text = text.replace("  %8 =", "  %6 = tensor.amax(%1) {dims = [0, 1]} : f32[]\n  %8 =")
    log = Log()
    graph = parse_graph(text)
    assert applied(graph, JoinLinears(), log) is graph
    assert {r.reason for r in log.refusals} == {
        "one of the results is computed from that of nn.linear"
    }


@dataclass(frozen=True)
class FuseAddNorm(Rule[None]):
    """rms_norm(x + y, w), x + y => layer_norm(y, w), -y, only to see what is replaced."""

    def pattern(self) -> Pattern:
        total = pat(el.add, var("x"), var("y")).named("sum")
        return outputs(pat(nn.rms_norm, total, maybe_var("w")), total)

    def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
        weight = (m["w"],) if m.get("w") is not None else ()
        return b.add(nn.layer_norm, m["y"], *weight, eps=1e-6), b.add(el.neg, m["y"])


def test_an_inner_value_may_be_an_output_too() -> None:
    graph = parse_graph("""graph @g(%x: f32[4, 8], %y: f32[4, 8], %w: f32[8]) {
  %sum = tensor.add(%x, %y) : f32[4, 8]
  %1 = tensor.exp(%sum) : f32[4, 8]
  %2 = nn.rms_norm(%sum, %w) {eps = 1e-06} : f32[4, 8]
  %3 = nn.rms_norm(%1, %w) {eps = 1e-06} : f32[4, 8]
  return %2, %sum, %3
}
""")
    after = applied(graph, FuseAddNorm())
    names = [op.name for op in after.ops]
    assert names == ["nn.layer_norm", "tensor.neg", "tensor.exp", "nn.rms_norm"]
    assert after.outputs[1] is after.ops[1].result


@dataclass(frozen=True)
class JoinHalves(Rule[None]):
    """topk(x)[0], topk(x)[1] read by neg and abs => what they read, only to see it bound."""

    def pattern(self) -> Pattern:
        top = pat(reduction.topk, var("x")).named("top").with_other_users()
        return outputs(pat(el.neg, top.result(0)), pat(el.absolute, top.result(1)))

    def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
        return m.ops["top"].results


def test_outputs_that_read_one_op_s_several_results() -> None:
    graph = parse_graph("""graph @g(%x: f32[4, 8]) {
  %0, %1 = tensor.topk(%x) {k = 2} : f32[4, 2], i64[4, 2]
  %2 = tensor.abs(%1) : i64[4, 2]
  %3 = tensor.neg(%0) : f32[4, 2]
  return %3, %2
}
""")
    after = applied(graph, JoinHalves())
    assert [op.name for op in after.ops] == ["tensor.topk"]
    assert after.outputs == after.ops[0].results


def test_a_match_is_found_again_when_a_second_output_comes_within_reach() -> None:
    @dataclass(frozen=True)
    class DropNegs(Rule[None]):
        """-(-x) => x."""

        def pattern(self) -> Pattern:
            return pat(el.neg, pat(el.neg, var("x")))

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return m["x"]

    text = LINEARS.replace("nn.linear(%x, %wv)", "nn.linear(%7, %wv)").replace(
        "  %4 =", "  %6 = tensor.neg(%x) : f32[4, 8]\n  %7 = tensor.neg(%6) : f32[4, 8]\n  %4 ="
    )
    graph = parse_graph(text)
    after = apply_rules(graph, [JoinLinears(), DropNegs()], Log())
    assert [op.name for op in after.ops].count("nn.linear") == 1, print_graph(after)


def test_patterns_of_outputs_hang_together() -> None:
    with pytest.raises(ValueError, match="shares a variable"):
        outputs(pat(el.neg, var("x")), pat(el.neg, var("y")))
    with pytest.raises(ValueError, match="two patterns or more"):
        outputs(pat(el.neg, var("x")))


@dataclass(frozen=True)
class RebuildBoth(Rule[None]):
    """x + y, x * z => x - (-y), x * z: exact, and it moves whatever stands between the two."""

    def pattern(self) -> Pattern:
        return outputs(pat(el.add, var("x"), var("y")), pat(el.mul, var("x"), var("z")))

    def check(self, m: Match) -> Refused | None:
        return None if m["x"].dtype in ("f32", "f64") else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
        total = b.add(el.sub, m["x"], b.add(el.neg, m["y"]))
        return total, b.add(el.mul, m["x"], m["z"])


@settings(max_examples=60)
@given(random_programs())
def test_random_programs_compute_the_same_after_it(program: Program) -> None:
    after = apply_rules(program.graph, [RebuildBoth()], Log())
    verify(after)
    args = program.arguments()
    before = evaluate(program.graph, [*args])
    for a, b in zip(evaluate(after, program.arguments()), before, strict=True):
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_the_property_is_not_empty() -> None:
    graph = parse_graph("""graph @g(%x: f32[4], %y: f32[4]) {
  %0 = tensor.add(%x, %y) : f32[4]
  %1 = tensor.exp(%0) : f32[4]
  %2 = tensor.neg(%y) : f32[4]
  %3 = tensor.exp(%2) : f32[4]
  %4 = tensor.mul(%x, %3) : f32[4]
  return %1, %4
}
""")
    after = applied(graph, RebuildBoth())
    names = [op.name for op in after.ops]
    assert names.index("tensor.mul") < len(names) - 1, "it came up to where the sum stood"
    assert "tensor.add" not in names
