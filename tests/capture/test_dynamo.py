"""The torch.compile door: sizes, mutation, aliases, what is refused, and who is a weight."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from effcomp.capture import Role
from effcomp.errors import FallbackWarning
from effcomp.ir import ResultView, SizeType, TensorType
from effcomp.ir.dims import symbol
from tests.capture.recording import Recorder, calls, check, same, unmodelled


def test_sizes_are_named_in_order() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        z = torch.cat([x, y]).flatten()
        return z * x.shape[0] / math.sqrt(y.shape[0]), z.shape[0] // 2

    recorder = check(function, torch.randn(3, 4), torch.randn(5, 4), dynamic=True)
    graph = recorder.graph()
    shapes = [str(p.type) for p in graph.params]
    assert shapes[:3] == ["size[s0]", "size[s1]", "f32[s0, s1]"]
    assert recorder.captured[0][0].sizes == {"s0": 3, "s1": 4, "s2": 5}
    assert any(isinstance(v.type, SizeType) for v in graph.outputs)
    assert calls(graph, "tensor.dim")


def test_one_graph_serves_other_sizes() -> None:
    def function(x: Tensor, n: int) -> Tensor:
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        wide = nn.functional.interpolate(x[None], scale_factor=2.0)[0]
        return wide[:, : turned.shape[-1]] + turned + torch.arange(x.shape[0])[:, None] * n

    recorder = Recorder()
    compiled = torch.compile(function, backend=recorder.backend, dynamic=True)
    for rows, columns, number in ((3, 8, 4), (5, 12, 7), (7, 6, 9)):
        x = torch.randn(rows, columns)
        same(compiled(x, number), function(x, number))
    assert len(recorder.graphs) == 1
    assert not unmodelled(recorder.graph())


def test_sums_that_torch_guards_on_are_equal() -> None:
    def function(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return torch.cat([a, b]) * torch.cat([c, d])

    args = [torch.randn(n) for n in (3, 5, 2, 6)]
    recorder = check(function, *args, dynamic=True)
    assert not unmodelled(recorder.graph())
    assert str(recorder.graph().params[-1].type) == "f32[s0 + s1 - s2]"


def test_inputs_are_written_last() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            self.seen.add_(x)
            return self.seen * self.weight

    model, recorder = Counter(), Recorder()
    compiled = torch.compile(model, backend=recorder.backend)
    with torch.no_grad():
        for _ in range(2):
            compiled(torch.ones(3))
    assert model.seen.tolist() == [2, 2, 2]
    graph = recorder.graph()
    assert graph.ops[-1].name == "state.write"
    assert {p.hint: p.weight for p in graph.params} == {"seen": False, "x": False, "weight": True}


def test_swapped_inputs() -> None:
    def swap(x: Tensor, y: Tensor) -> None:
        old = x.clone()
        x.copy_(y)
        y.copy_(old)

    recorder = Recorder()
    x, y = torch.zeros(2), torch.ones(2)
    torch.compile(swap, backend=recorder.backend)(x, y)
    assert (x.tolist(), y.tolist()) == ([1, 1], [0, 0])


def test_results_share_memory_as_in_eager() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        y = x + 1
        return x, x.clone(), y, y.clone(), y.view(-1), x[0]

    recorder = Recorder()
    x = torch.zeros(2, 2)
    same_x, cloned, y, y_cloned, y_view, row = torch.compile(function, backend=recorder.backend)(x)
    assert same_x is x
    x.fill_(5)
    y.fill_(7)
    assert cloned.sum() == 0
    assert row.tolist() == [5, 5]
    assert y_cloned.sum() == 4
    assert y_view.tolist() == [7] * 4


def test_views_of_one_memory_are_results_without_ops() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        q, k = (x * 2).chunk(2, 1)
        return k.t(), x[1:], q, x + 1

    recorder = check(function, torch.randn(3, 4))
    (captured, _) = recorder.captured[0]
    base, plain = captured.graph.outputs
    assert captured.graph.output_strides == ((4, 1), (4, 1))
    assert [op.name for op in captured.graph.producers().values() if base in op.results] == [
        "tensor.mul"
    ]
    assert captured.results == (
        ResultView("output", 0, TensorType("f32", (2, 3)), (1, 4), 2),
        ResultView("param", 0, TensorType("f32", (2, 4)), (4, 1), 4),
        ResultView("output", 0, TensorType("f32", (3, 2)), (4, 1), 0),
        captured.graph.outputs.index(plain),
    )


def test_a_view_of_a_written_input_is_one_of_the_input() -> None:
    def function(cache: Tensor, x: Tensor, n: int) -> Tensor:
        cache[n] = x
        return cache[n:]

    recorder = check(function, torch.zeros(5, 2), torch.ones(2), 3, dynamic=True)
    graph, (view,) = recorder.graph(), recorder.captured[0][0].results
    assert graph.outputs == ()
    assert isinstance(view, ResultView)
    assert graph.params[view.of].hint == "cache"
    assert view.offset == view.type.shape[1] * symbol("u2")


def test_an_old_value_outlives_its_overwriting() -> None:
    def function(x: Tensor) -> Tensor:
        old = x.clone()
        x.add_(1)
        return old

    x = torch.zeros(3)
    assert torch.compile(function, backend=Recorder().backend)(x).sum() == 0
    assert x.sum() == 3


def test_layouts_of_inputs_and_results() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, y.transpose(0, 1) * 2

    recorder = check(function, torch.randn(3, 4).t(), torch.randn(2, 3))
    graph = recorder.graph()
    assert graph.params[0].strides == (1, 4)
    assert graph.params[1].strides is None
    assert graph.output_strides == ((1, 4), (1, 3))


def test_tied_weights_and_unused_inputs() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens: Tensor, unused: Tensor | None = None) -> Tensor:
            return self.head(self.table(tokens))

    model, recorder = Tied(), Recorder()
    tokens = torch.tensor([[1, 2]])
    loss = torch.compile(model, backend=recorder.backend)(tokens).square().sum()
    (found,) = torch.autograd.grad(loss, [model.table.weight])
    (expected,) = torch.autograd.grad(model(tokens).square().sum(), [model.table.weight])
    torch.testing.assert_close(found, expected)
    assert sum(p.weight for p in recorder.graph(Role.FORWARD).params) == 1


def test_absent_gradients_are_none() -> None:
    def function(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
        return (x[index] * y).sum()

    x, y = torch.randn(4, requires_grad=True), torch.randn(2, requires_grad=True)
    recorder = Recorder()
    compiled = torch.compile(function, backend=recorder.backend)
    compiled(x, torch.tensor([0, 2]), y).backward()
    assert x.grad is not None
    assert x.grad.count_nonzero() == 2
    (backward,) = [c for c, role in recorder.captured if role is Role.BACKWARD]
    assert backward.results == (0, None, 1)


def test_random_calls_keep_their_order() -> None:
    def function(x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5) + torch.rand_like(x)

    recorder = Recorder()
    torch.compile(function, backend=recorder.backend)(torch.ones(4))
    found = calls(recorder.graph(), "aten.call")
    assert found
    assert all(op.attrs["effects"] for op in found)
    assert found[0].attrs["why"] == "draws random numbers"


@torch.library.custom_op("effcomp_tests::pairs", mutates_args=())
def pairs(x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return x * scale, x.t().contiguous().t()


@pairs.register_fake
def _(x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[::-1]).t()


def test_custom_operators_are_called() -> None:
    recorder = check(lambda x: pairs(x + 1, 2.0), torch.randn(2, 3))
    (call,) = calls(recorder.graph(), "aten.call")
    assert call.attrs["target"] == "effcomp_tests.pairs.default"
    assert call.attrs["why"] == "an operator of another library"
    assert [r.strides for r in call.results] == [None, (1, 2)]


def test_what_cannot_be_captured_runs_eagerly() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    counters["effcomp"].clear()
    recorder, x = Recorder(), torch.ones(3)
    with torch.no_grad(), pytest.warns(FallbackWarning, match="higher-order"):
        found = torch.compile(function, backend=recorder.backend)(x)
    assert found.tolist() == [2, 2, 2]
    assert not recorder.captured
    assert counters["effcomp"]["eager graphs"] == 1


def test_a_compilers_own_error_is_not_hidden() -> None:
    def refuse(*_: object) -> object:
        raise ValueError("no kernel")

    def backend(gm: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        from effcomp.capture import compile_dynamo

        return compile_dynamo(gm, inputs, refuse)

    compiled = torch.compile(lambda x: x + 1, backend=backend)
    with pytest.raises(Exception, match="no kernel"):
        compiled(torch.ones(2))
