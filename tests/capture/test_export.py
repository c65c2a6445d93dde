"""The torch.export door."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, export

from effcomp.capture import capture_exported
from effcomp.reference import evaluate
from tests.capture.recording import calls, check_graph, same, unmodelled
from tests.models.zoo import ZOO


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 6)
        self.register_buffer("calls", torch.zeros(()))
        self.shift = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.add_(1)
        scale.mul_(2)
        y = self.linear(self.norm(x + self.shift))
        return nn.functional.silu(y) * scale, y.softmax(-1)


def test_an_exported_module() -> None:
    model = Model().eval()
    x, scale = torch.randn(3, 4), torch.ones(())
    rows = Dim("rows", min=2, max=64)
    program = export(model, (x, scale), dynamic_shapes=({0: rows}, None))
    graph = capture_exported(program).graph
    check_graph(graph)
    assert not unmodelled(graph)
    assert {"nn.layer_norm", "nn.linear", "nn.softmax", "nn.silu"} <= {o.name for o in graph.ops}
    assert [p.hint for p in graph.params[:4]] == [
        "norm_weight", "norm_bias", "linear_weight", "linear_bias",
    ]  # fmt: skip
    assert len(calls(graph, "state.write")) == 2
    assert str(graph.params[-2].type) == "f32[s0, 4]"

    seen, factor = torch.zeros(()), torch.ones(())
    weights = [*model.parameters(), seen, model.shift]
    x = torch.randn(5, 4)
    found = evaluate(graph, [*weights, x, factor])
    same(found, list(model(x, torch.ones(()))))
    assert (seen.item(), factor.item()) == (1, 2)


def test_a_model_of_the_zoo() -> None:
    entry = ZOO["bert"]
    model, inputs = entry.build(), entry.inputs()
    captured = capture_exported(export(model, (), inputs, strict=False))
    check_graph(captured.graph)
    assert not unmodelled(captured.graph)
    assert any(
        op.scope.endswith("encoder.layer.0.attention.self.query") for op in captured.graph.ops
    )
