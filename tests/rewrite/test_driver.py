"""The rewriting engine: what matches, what is refused, and how far it goes."""

from dataclasses import dataclass

import pytest

from effcomp.errors import PassError
from effcomp.ir import Graph, Op, TensorType, Value, parse_graph, print_graph, verify
from effcomp.ir.ops import elementwise, nn, reduction, view
from effcomp.rewrite import (
    Builder,
    Log,
    Match,
    Pat,
    Refused,
    Rule,
    apply_rules,
    attr_var,
    const,
    either,
    maybe,
    maybe_var,
    pat,
    rest,
    var,
)


def graph_of(*lines: str, params: str = "%x: f32[2, 4], %y: f32[2, 4]") -> Graph:
    graph = parse_graph("\n".join([f"graph @g({params}) {{", *lines, "}"]))
    verify(graph)
    return graph


def names(graph: Graph) -> list[str]:
    return [op.name for op in graph.ops]


@dataclass(frozen=True)
class FuseSilu(Rule[None]):
    """x * sigmoid(x) => silu(x)."""

    def pattern(self) -> Pat:
        return pat(elementwise.mul, var("x"), pat(elementwise.sigmoid, var("x")))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.add(elementwise.silu, m["x"])


@dataclass(frozen=True)
class DropDoubleNeg(Rule[None]):
    """-(-x) => x."""

    def pattern(self) -> Pat:
        inner = pat(elementwise.neg, var("x")).with_other_users()
        return pat(elementwise.neg, inner)

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


@pytest.mark.parametrize("order", ["%x, %0", "%0, %x"])
def test_commutative_operands_match_in_either_order(order: str) -> None:
    graph = graph_of(
        "%0 = tensor.sigmoid(%x) : f32[2, 4]", f"%1 = tensor.mul({order}) : f32[2, 4]", "return %1"
    )
    log = Log()
    assert names(apply_rules(graph, [FuseSilu()], log)) == ["nn.silu"]
    assert log.counts == {"FuseSilu": 1}


def test_a_repeated_variable_means_one_value() -> None:
    graph = graph_of(
        "%0 = tensor.sigmoid(%y) : f32[2, 4]", "%1 = tensor.mul(%x, %0) : f32[2, 4]", "return %1"
    )
    log = Log()
    assert apply_rules(graph, [FuseSilu()], log) is graph
    assert not log.refusals


def test_an_interior_value_read_elsewhere_is_refused_with_its_op() -> None:
    graph = graph_of(
        '%0 = tensor.sigmoid(%x) : f32[2, 4] loc "m.py:1"',
        '%1 = tensor.mul(%x, %0) : f32[2, 4] loc "m.py:2"',
        "return %1, %0",
    )
    log = Log()
    assert apply_rules(graph, [FuseSilu()], log) is graph
    (refusal,) = log.refusals
    assert refusal.reason == "the result of tensor.sigmoid is used elsewhere too"
    assert (refusal.rule, refusal.count, refusal.locs) == ("FuseSilu", 1, ("m.py:2",))


def test_a_shared_interior_value_may_have_other_readers() -> None:
    graph = graph_of(
        "%0 = tensor.neg(%x) : f32[2, 4]", "%1 = tensor.neg(%0) : f32[2, 4]", "return %1, %0"
    )
    after = apply_rules(graph, [DropDoubleNeg()], Log())
    assert names(after) == ["tensor.neg"]
    assert after.outputs[0] is after.params[0]


@dataclass(frozen=True)
class FuseScaledSoftmax(Rule[float]):
    """softmax(x * s) => layer_norm(x), only to see what was bound."""

    def pattern(self) -> Pat:
        scaled = maybe(lambda x: pat(elementwise.mul, x, const("s")), var("x"))
        return pat(nn.softmax, scaled, dim=attr_var("dim"))

    def check(self, m: Match) -> float | Refused:
        if m.attrs["dim"] != -1:
            return Refused(f"dim is {m.attrs['dim']}")
        return float(m.numbers.get("s", 1.0))

    def rewrite(self, m: Match, b: Builder, facts: float) -> Value:
        return b.add(nn.layer_norm, m["x"], eps=facts)


@pytest.mark.parametrize(("operand", "eps"), [("%2", 0.5), ("%x", 1.0), ("%y", 1.0)])
def test_an_optional_part_binds_when_it_is_there(operand: str, eps: float) -> None:
    graph = graph_of(
        '%0 = tensor.full() {shape = [4], value = 0.5, dtype = "f32"} : f32[4]',
        "%1 = tensor.broadcast(%0) {shape = [2, 4]} : f32[2, 4]",
        "%2 = tensor.mul(%1, %x) : f32[2, 4]",
        f"%3 = nn.softmax({operand}) {{dim = -1}} : f32[2, 4]",
        "return %3",
    )
    after = apply_rules(graph, [FuseScaledSoftmax()], Log())
    assert after.outputs[0] is after.ops[-1].result
    assert after.ops[-1].attrs["eps"] == eps
    assert after.ops[-1].operands[0].hint in ("x", "y")


def test_a_refusal_by_check_keeps_its_reason_and_is_logged_once() -> None:
    graph = graph_of(
        '%0 = nn.softmax(%x) {dim = 0} : f32[2, 4] loc "m.py:7"',
        '%1 = nn.softmax(%y) {dim = 0} : f32[2, 4] loc "m.py:8"',
        "%2 = tensor.neg(%0) : f32[2, 4]",
        "%3 = tensor.neg(%2) : f32[2, 4]",
        "return %3, %1",
    )
    log = Log()
    apply_rules(graph, [FuseScaledSoftmax(), DropDoubleNeg()], log)
    (refusal,) = log.refusals
    assert (refusal.reason, refusal.count) == ("dim is 0", 2)
    assert str(refusal) == "FuseScaledSoftmax refused: dim is 0 at m.py:7, m.py:8"


def test_optional_operands_and_rest() -> None:
    @dataclass(frozen=True)
    class DropBias(Rule[None]):
        def pattern(self) -> Pat:
            return pat(nn.linear, var("x"), var("w"), maybe_var("b"))

        def check(self, m: Match) -> Refused | None:
            return Refused("no bias") if m.get("b") is None else None

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return b.add(nn.linear, m["x"], m["w"])

    @dataclass(frozen=True)
    class FirstPart(Rule[None]):
        def pattern(self) -> Pat:
            return pat(view.concat, rest("xs"), dim=0)

        def check(self, m: Match) -> Refused | None:
            return None if len(m.many["xs"]) == 1 else Refused(f"{len(m.many['xs'])} parts")

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return m.many["xs"][0]

    graph = graph_of(
        "%0 = nn.linear(%x, %w, %v) : f32[2, 3]",
        "%1 = tensor.concat(%0, %0) {dim = 0} : f32[4, 3]",
        "%2 = tensor.concat(%1) {dim = 0} : f32[4, 3]",
        "return %2",
        params="%x: f32[2, 4], %w: f32[3, 4], %v: f32[3]",
    )
    log = Log()
    after = apply_rules(graph, [DropBias(), FirstPart()], log)
    assert names(after) == ["nn.linear", "tensor.concat"]
    assert len(after.ops[0].operands) == 2
    assert {r.reason for r in log.refusals} == {"no bias", "2 parts"}


def test_several_results() -> None:
    @dataclass(frozen=True)
    class UseSort(Rule[None]):
        """topk over everything => sort."""

        def pattern(self) -> Pat:
            return pat(reduction.topk, var("x"), k=4, dim=-1)

        def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
            return b.add_op(reduction.sort, m["x"], descending=True).results

    @dataclass(frozen=True)
    class NegIndices(Rule[None]):
        """a reader of the second result."""

        def pattern(self) -> Pat:
            return pat(elementwise.neg, pat(reduction.sort, var("x")).result(1).with_other_users())

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return m.interior[0].results[1]

    graph = graph_of(
        "%0, %1 = tensor.topk(%x) {k = 4} : f32[2, 4], i64[2, 4]",
        "%2 = tensor.neg(%1) : i64[2, 4]",
        "%3 = tensor.neg(%0) : f32[2, 4]",
        "return %2, %3",
    )
    after = apply_rules(graph, [UseSort(), NegIndices()], Log())
    verify(after)
    assert names(after) == ["tensor.sort", "tensor.neg"]


def test_matches_claim_disjoint_ops_and_reach_a_fixed_point() -> None:
    lines = ["%0 = tensor.neg(%x) : f32[2, 4]"]
    lines += [f"%{i} = tensor.neg(%{i - 1}) : f32[2, 4]" for i in range(1, 7)]
    graph = graph_of(*lines, "return %6")
    log = Log()
    after = apply_rules(graph, [DropDoubleNeg()], log)
    verify(after)
    assert names(after) == ["tensor.neg"]
    assert log.counts == {"DropDoubleNeg": 3}


def test_bodies_are_visited_on_request() -> None:
    graph = graph_of(
        "%0 = fused.pointwise(%x) : f32[2, 4] @b(%a: f32[2, 4]) {",
        "  %0 = tensor.neg(%a) : f32[2, 4]",
        "  %1 = tensor.neg(%0) : f32[2, 4]",
        "  %2 = tensor.exp(%1) : f32[2, 4]",
        "  return %2",
        "}",
        "return %0",
    )
    assert apply_rules(graph, [DropDoubleNeg()], Log()) is graph
    after = apply_rules(graph, [DropDoubleNeg()], Log(), bodies=True)
    verify(after)
    assert after.ops[0].body is not None
    assert names(after.ops[0].body) == ["tensor.exp"]


def test_hints_locs_and_scopes_are_kept() -> None:
    graph = graph_of(
        "%0 = tensor.sigmoid(%x) : f32[2, 4]",
        '%gate.1 = tensor.mul(%x, %0) : f32[2, 4] loc "m.py:3" scope "mlp"',
        "return %gate.1",
    )
    assert print_graph(apply_rules(graph, [FuseSilu()], Log())).splitlines()[1] == (
        '  %gate.0 = nn.silu(%x) : f32[2, 4] loc "m.py:3" scope "mlp"'
    )


def test_a_rule_must_keep_the_type() -> None:
    @dataclass(frozen=True)
    class Wrong(Rule[None]):
        def pattern(self) -> Pat:
            return pat(elementwise.neg, var("x"))

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return b.add(view.permute, m["x"], dims=(1, 0))

    graph = graph_of('%0 = tensor.neg(%x) : f32[2, 4] loc "m.py:3"', "return %0")
    with pytest.raises(PassError, match=r"f32\[2, 4\] became f32\[4, 2\]") as caught:
        apply_rules(graph, [Wrong()], Log())
    assert "rule Wrong at\n > %0 = tensor.neg(%x)" in caught.value.__notes__[0]


def test_rules_that_undo_each_other_are_reported() -> None:
    @dataclass(frozen=True)
    class Flip(Rule[None]):
        def pattern(self) -> Pat:
            return either(pat(elementwise.exp, var("x")), pat(elementwise.exp2, var("x")))

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            other = elementwise.exp2 if m.root.name == "tensor.exp" else elementwise.exp
            return b.add(other, m["x"])

    graph = graph_of("%0 = tensor.exp(%x) : f32[2, 4]", "return %0")
    with pytest.raises(PassError, match="no fixed point: the last rule was Flip"):
        apply_rules(graph, [Flip()], Log())


def _chain(count: int) -> Graph:
    x = Value(TensorType("f32", (4,)), "x")
    ops: list[Op] = []
    value = x
    for i in range(count):
        spec = elementwise.neg if i % 5 else elementwise.exp
        ops.append(spec.build(value))
        value = ops[-1].result
    return Graph("chain", (x,), tuple(ops), (value,))


def test_ten_thousand_ops() -> None:
    graph = _chain(10_000)
    log = Log()
    after = apply_rules(graph, [DropDoubleNeg(), FuseSilu(), FuseScaledSoftmax()], log)
    assert log.counts == {"DropDoubleNeg": 4000}
    assert len(after.ops) == 2000
