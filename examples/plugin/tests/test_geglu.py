"""The checklist of docs/how-to/write-a-pass.md, done for this plugin."""

import pytest
import torch
from effcomp_geglu import FuseGeglu, gate, gate_in_torch
from torch import nn

import effcomp as ec
from effcomp.testing import check_op, check_rule

GEGLU = """graph @g(%h: f32[s0, 12]) {
  %0 = tensor.slice(%h) {dim = 1, stop = 6} : f32[s0, 6] loc "model.py:8"
  %1 = tensor.slice(%h) {dim = 1, start = 6, stop = 12} : f32[s0, 6]
  %2 = nn.gelu(%1) : f32[s0, 6]
  %3 = tensor.mul(%0, %2) : f32[s0, 6] loc "model.py:9"
  return %3
}
"""


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(8, 24), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, gate = self.project(x).chunk(2, dim=-1)
        return self.out(hidden * nn.functional.gelu(gate))


def test_the_rule_fires_and_keeps_the_numbers() -> None:
    after = check_rule(FuseGeglu(), GEGLU)
    assert [op.name for op in after.ops] == ["geglu.gate"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (GEGLU.replace("start = 6, stop = 12", "start = 5, stop = 11"),
         "the right factor is not that half of f32[s0, 12]"),
        (GEGLU.replace("return %3", "return %3, %2"),
         "the result of nn.gelu is used elsewhere too"),
    ],
)  # fmt: skip
def test_the_rule_refuses_and_says_why(program: str, reason: str) -> None:
    check_rule(FuseGeglu(), program, refuses=reason)


def test_the_tanh_form_is_another_function() -> None:
    check_rule(FuseGeglu(), GEGLU.replace("gelu(%1)", 'gelu(%1) {approximate = "tanh"}'), fires=0)


@pytest.mark.parametrize("types", ["f32[s0, 12]", "f32[2, s0, 6]", "f16[3, 8]"])
def test_kernel_and_reference_agree(types: str) -> None:
    check_op(gate, types)
    check_op(gate, types, target="cpu", kernel=False)


def test_types_that_do_not_fit() -> None:
    with pytest.raises(ec.EffcompError, match=r"f32\[4, 7\] has no two equal halves"):
        gate.build(ec.Value(ec.TensorType("f32", (4, 7))))


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
def test_a_model_gets_it_without_asking(target: str) -> None:
    model, x = FeedForward().eval(), torch.randn(5, 8)
    with torch.no_grad():
        report = ec.explain(model, x, options={"target": target})
        assert report.graphs[0].matches["FuseGeglu"] == 1
        compiled = torch.compile(model, backend=ec.backend, options={"target": target})
        torch.testing.assert_close(compiled(x), model(x))
        off = {"target": target, "disable": ["fuse-geglu"]}
        torch.testing.assert_close(
            torch.compile(model, backend=ec.backend, options=off)(x), model(x)
        )


def test_training_goes_through_it() -> None:
    h = torch.randn(4, 6, requires_grad=True)
    torch.compile(gate_in_torch, backend=ec.backend)(h).sum().backward()
    found, h.grad = h.grad, None
    gate_in_torch(h).sum().backward()
    torch.testing.assert_close(found, h.grad)
