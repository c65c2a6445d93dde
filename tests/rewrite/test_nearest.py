"""What a rule that idles says of the place where it came nearest."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from effcomp.ir import Value, parse_graph
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import nn
from effcomp.rewrite import (
    Builder,
    Log,
    Match,
    Pattern,
    Refused,
    Rule,
    apply_rules,
    const,
    maybe,
    outputs,
    pat,
    var,
)


@dataclass(frozen=True)
class FuseScores(Rule[None]):
    """softmax(q @ k * s) @ v => v, only to see where it stops."""

    def pattern(self) -> Pattern:
        product = pat(nn.matmul, var("q"), var("k"))
        scaled = maybe(lambda p: pat(el.mul, p, const("s")), product)
        return pat(nn.matmul, pat(nn.softmax, scaled, dim=-1), var("v"))

    def check(self, m: Match) -> Refused | None:
        return Refused("not today")

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["v"]


def misses(*lines: str, rule: Rule[None] | None = None, trace: str = "fuse-scores") -> list[str]:
    params = "%q: f32[2, 4, 4], %k: f32[2, 4, 4], %v: f32[2, 4, 4]"
    graph = parse_graph("\n".join([f"graph @g({params}) {{", *lines, "}"]))
    log = Log(trace=[trace])
    apply_rules(graph, [rule or FuseScores()], log)
    return [str(miss) for miss in log.misses]


SCORES = '%0 = tensor.matmul(%q, %k) : f32[2, 4, 4] loc "m.py:1"'
HALF = '%1 = tensor.constant() {dtype = "f32", value = 0.5} : f32[]'
SCALED = '%2 = tensor.mul(%1, %0) : f32[2, 4, 4] loc "m.py:2"'
SOFTMAX = '%3 = nn.softmax(%2) {dim = -1} : f32[2, 4, 4] loc "m.py:3"'
LAST = '%4 = tensor.matmul(%3, %v) : f32[2, 4, 4] loc "m.py:4"'
RETURN = "return %4"


def test_an_attribute_that_differs() -> None:
    dim_1 = SOFTMAX.replace("-1", "1")
    assert misses(SCORES, HALF, SCALED, dim_1, LAST, RETURN)[0] == (
        "FuseScores matched 3 of 4 ops at m.py:4; "
        "nn.softmax has dim=1, the pattern wants dim=-1 at m.py:3"
    )


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (
            (SCORES, HALF, SCALED.replace("mul(%1", "mul(%q"), SOFTMAX, LAST),
            "4 of 4 ops at m.py:4; tensor.mul reads %q, the pattern wants a number",
        ),
        (
            (SCORES, HALF, SCALED.replace("mul", "add"), SOFTMAX, LAST),
            "2 of 3 ops at m.py:4; tensor.add stands where the pattern wants tensor.matmul",
        ),
        (
            (SCORES, HALF, SCALED, SOFTMAX, LAST.replace("(%3, %v)", "(%v, %v)")),
            "1 of 3 ops at m.py:4; tensor.matmul reads the input %v, the pattern wants nn.softmax",
        ),
        (
            (SCORES, HALF, SCALED, SOFTMAX, LAST),
            "4 of 4 ops at m.py:4; all of the pattern is there: see the refusals",
        ),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(lines: tuple[str, ...], shown: str) -> None:
    found = misses(*lines, RETURN)
    assert any(shown in miss for miss in found), found


def test_the_nearest_come_first_and_few_are_kept() -> None:
    extra = [f'%{i} = tensor.matmul(%q, %k) : f32[2, 4, 4] loc "x:{i}"' for i in range(10, 30)]
    found = misses(SCORES, HALF, SCALED, SOFTMAX.replace("-1", "1"), LAST, *extra, RETURN)
    assert len(found) == 4
    assert "3 of 4" in found[0]


def test_a_variable_that_comes_twice_and_a_missing_root() -> None:
    @dataclass(frozen=True)
    class FuseSilu(Rule[None]):
        """x * sigmoid(x) => x."""

        def pattern(self) -> Pattern:
            return pat(el.mul, var("x"), pat(el.sigmoid, var("x")))

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return m["x"]

    lines = ["%0 = tensor.sigmoid(%k) : f32[2, 4, 4]", "%1 = tensor.mul(%q, %0) : f32[2, 4, 4]"]
    (found,) = misses(*lines, "return %1", rule=FuseSilu(), trace="FuseSilu")
    assert found == (
        "FuseSilu matched 2 of 2 ops; "
        "tensor.sigmoid reads %k where the pattern wants 'x', %q, again"
    )
    (found,) = misses("return %q", rule=FuseSilu(), trace="FuseSilu")
    assert found == "FuseSilu matched 0 of 2 ops; the program holds no tensor.mul"
    assert misses(*lines, "return %1", rule=FuseSilu(), trace="other") == []


def test_outputs_of_which_one_is_missing() -> None:
    @dataclass(frozen=True)
    class JoinTwo(Rule[None]):
        """-x, |x| => x, x."""

        def pattern(self) -> Pattern:
            return outputs(pat(el.neg, var("x")), pat(el.absolute, var("x")))

        def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
            return m["x"], m["x"]

    (found,) = misses(
        "%0 = tensor.neg(%q) : f32[2, 4, 4]", "return %0", rule=JoinTwo(), trace="join-two"
    )
    assert found == (
        "JoinTwo matched 1 of 2 ops; the pattern's other outputs are not found beside it"
    )


def test_matches_say_where() -> None:
    graph = parse_graph("""graph @g(%x: f32[4]) {
  %0 = tensor.neg(%x) : f32[4] loc "m.py:1"
  %1 = tensor.neg(%0) : f32[4] loc "m.py:2"
  %2 = tensor.exp(%1) : f32[4]
  %3 = tensor.neg(%2) : f32[4]
  %4 = tensor.neg(%3) : f32[4] loc "m.py:9"
  return %4
}
""")

    @dataclass(frozen=True)
    class DropNegs(Rule[None]):
        """-(-x) => x."""

        def pattern(self) -> Pattern:
            return pat(el.neg, pat(el.neg, var("x")))

        def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
            return m["x"]

    log = Log()
    apply_rules(graph, [DropNegs()], log)
    assert [str(match) for match in log.matches] == ["DropNegs x2 at m.py:2, m.py:9"]
