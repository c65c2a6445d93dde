"""effcomp.testing: what it lets pass, and what it says of what it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import effcomp as ec
from effcomp.testing import (
    assert_golden,
    check_op,
    check_pass,
    check_rule,
    check_text,
    golden_cases,
    isolated,
    run_artifact_golden,
)
from tests.plugins.test_custom_ops import emit, reference

el = ec.ops.elementwise
DOUBLED = """graph @g(%x: f32[s0, 8]) {
  %0 = tensor.constant() {dtype = "f32", value = 2.0} : f32[]
  %1 = tensor.mul(%x, %0) : f32[s0, 8] loc "m.py:2"
  return %1
}
"""


@dataclass(frozen=True)
class DoubleByAdding(ec.Rule[None]):
    """x * factor => x + x."""

    factor: float = 2.0

    def pattern(self) -> object:
        return ec.pat(el.mul, ec.var("x"), ec.const("factor"))

    def check(self, m: ec.Match) -> ec.Refused | None:
        factor = m.numbers["factor"]
        return None if factor == self.factor else ec.Refused(f"the factor is {factor}")

    def rewrite(self, m: ec.Match, b: ec.Builder, facts: None) -> ec.Value:
        return b.add(el.add, m["x"], m["x"])


@dataclass(frozen=True)
class NeverDone(ec.Rule[None]):
    """x + y => y + x."""

    def pattern(self) -> object:
        return ec.pat(el.sub, ec.var("x"), ec.var("y"))

    def rewrite(self, m: ec.Match, b: ec.Builder, facts: None) -> ec.Value:
        return b.add(el.sub, m["y"], m["x"])


def test_a_rule_s_four_tests() -> None:
    after = check_rule(DoubleByAdding(), DOUBLED)
    assert [op.name for op in after.ops][-1] == "tensor.add"
    check_rule(DoubleByAdding(), DOUBLED.replace("2.0", "3.0"), refuses="the factor is 3.0")


@pytest.mark.parametrize(
    ("rule", "program", "options", "shown"),
    [
        (DoubleByAdding(), DOUBLED.replace("mul", "add"), {}, "fires 0 times, .*no tensor.mul"),
        (DoubleByAdding(), DOUBLED.replace("2.0", "3.0"), {}, "refused: the factor is 3.0 at m"),
        (DoubleByAdding(), DOUBLED, {"refuses": "no"}, "gives no reason 'no'"),
        (DoubleByAdding(3.0), DOUBLED.replace("2.0", "3.0"), {}, "output 0: relative error"),
    ],
)  # fmt: skip
def test_a_rule_that_does_otherwise(
    rule: ec.Rule[None], program: str, options: dict[str, str], shown: str
) -> None:
    with pytest.raises(AssertionError, match=shown):
        check_rule(rule, program, **options)  # type: ignore[arg-type]


def test_a_rule_that_has_no_end() -> None:
    text = (
        "graph @g(%x: f32[4], %y: f32[4]) {\n  %0 = tensor.sub(%x, %y) : f32[4]\n  return %0\n}\n"
    )
    with pytest.raises(Exception, match="no fixed point: the last rule was NeverDone"):
        check_rule(NeverDone(), text)


def test_numbers_of_a_pass_by_text_and_with_sizes() -> None:
    kind = ec.pass_of("double-by-adding", DoubleByAdding())
    check_pass(kind(), DOUBLED)
    check_pass(kind(), DOUBLED, sizes={"s0": 3})
    wrong = ec.pass_of("wrong", DoubleByAdding(3.0))
    with pytest.raises(AssertionError) as raised:
        check_pass(wrong(), DOUBLED.replace("2.0", "3.0"))
    assert "after:\ngraph @g" in "".join(raised.value.__notes__)


def test_goldens_are_written_and_compared(tmp_path: Path) -> None:
    file = tmp_path / "cse.eff"
    twice = DOUBLED.replace(
        "  return %1", "  %2 = tensor.mul(%x, %0) : f32[s0, 8]\n  return %1, %2"
    )
    file.write_text(f"// case: twice\n{twice}// ====\n// pipeline: canonicalize\n{DOUBLED}")
    with pytest.raises(AssertionError, match=r"twice: .* gives another program than cse.eff holds"):
        assert_golden(file, "cse")
    assert_golden(file, "cse", update=True)
    assert_golden(file, "cse")
    first, second = golden_cases(file)
    assert first.id.endswith("/cse/twice")
    assert second.before.name == "g"
    assert "return %1, %1" in first.after or "return %1, %2" in first.after


def test_a_golden_may_hold_directives(tmp_path: Path) -> None:
    file = tmp_path / "checked.eff"
    file.write_text(DOUBLED + "// CHECK: tensor.mul(%x\n// CHECK-NEXT: return\n")
    assert_golden(file, "dce")
    file.write_text(DOUBLED + "// CHECK-NOT: tensor.mul\n// CHECK: return\n")
    with pytest.raises(AssertionError, match=r"CHECK-NOT: 'tensor.mul' is there"):
        assert_golden(file, "dce")


@pytest.mark.parametrize(
    ("directives", "shown"),
    [
        ("// CHECK: a {{b+}} c\n// CHECK-NEXT: d\n// CHECK: f", ""),
        ("// CHECK-COUNT-2: {{^[de]$}}\n# CHECK-NOT: a", ""),
        ("// CHECK: d\n// CHECK: a", "CHECK on line 2 finds no 'a' below line 3"),
        ("// CHECK: a\n// CHECK-NEXT: e", "CHECK-NEXT on line 2 finds no 'e' below line 2"),
        ("// CHECK: a\n// CHECK-NOT: e\n// CHECK: f", "CHECK-NOT: 'e' is there"),
        ("// CHECK-COUNT-3: d", "CHECK-COUNT-3 on line 1 finds no 'd' below line 3"),
    ],
)
def test_directives(directives: str, shown: str) -> None:
    text = "first\na   bbb c\nd\ne\nf\n"
    if not shown:
        check_text(text, directives)
        return
    with pytest.raises(AssertionError, match=shown):
        check_text(text, directives)


def test_an_op_s_kernel_and_reference() -> None:
    with isolated():

        @ec.op("test.squared_relu", reference=reference, triton=emit)
        def squared_relu(x: ec.TensorType, *, scale: float = 1.0) -> ec.TensorType:
            """scale * max(x, 0)^2."""
            return x

        check_op(squared_relu, "f32[s0, 6]", scale=2.0)
        check_op(squared_relu, "f32[s0, 6]", target="cpu", kernel=False)
        with pytest.raises(AssertionError, match=r"test.squared_relu is \['call'.*float64 is slow"):
            check_op(squared_relu, "f64[s0, 6]")


def test_a_saved_model_s_golden(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SiLU()).eval()
    x = torch.randn(3, 4)
    artifact, golden = tmp_path / "m.eff", tmp_path / "golden.safetensors"
    ec.compile(model, (x,)).save(artifact)
    run_artifact_golden(artifact, golden, [x], update=True)
    run_artifact_golden(artifact, golden)
    with torch.no_grad():
        model[0].weight += 1
    ec.compile(model, (x,)).save(artifact)
    with pytest.raises(AssertionError, match=r"output 0 of .*m.eff"):
        run_artifact_golden(artifact, golden)
