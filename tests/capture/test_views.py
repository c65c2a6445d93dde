"""Views, joins, indexing and creation, each group in one graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.capture.recording import calls, check, unmodelled


def test_views() -> None:
    def function(x: Tensor) -> dict[str, object]:
        return {
            "view": x.view(6, 4) + 1,
            "flatten": x.flatten(1) + 1,
            "unflatten": x.unflatten(2, (2, 2)) + 1,
            "unsqueeze": x.unsqueeze(-1) + 1,
            "squeeze": x[:1].squeeze() + 1,
            "t": x[0].t() + 1,
            "permute": x.permute(2, 0, 1) + 1,
            "transpose": x.transpose(-1, 0) + 1,
            "expand": x[:, :1].expand(2, 3, -1) + 1,
            "flip": x.flip(0, 2) + 1,
            "roll": x.roll(1, 1),
            "slice": x[:, 1:, ::2] + 1,
            "negative": x[..., -3:-1] + 1,
            "far": x[:, 5:] + 1,
            "select": x[1, -1] + 1,
            "narrow": x.narrow(2, 1, 2) + 1,
            "split": [p + 1 for p in x.split(2, 2)],
            "sizes": [p + 1 for p in x.split([1, 3], -1)],
            "chunk": [p + 1 for p in x.chunk(2, 2)],
            "unbind": [p + 1 for p in x.unbind(1)],
            "movedim": x.movedim(0, 2) + 1,
            "repeat": x.repeat(2, 1, 3),
            "repeat_more": x[0, 0].repeat(2, 2),
            "interleave": x.repeat_interleave(2, dim=1),
            "cat": torch.cat([x, x[:, :1]], 1),
            "cat_types": torch.cat([x[0], x[0].int()]),
            "stack": torch.stack([x, x + 1], 1),
            "pad": F.pad(x, (1, 2, 0, 1), value=3),
            "crop": F.pad(x, (-1, 1)),
            "tril": x.tril(-1),
            "triu": x.triu(1),
            "reflect": F.pad(x, (1, 1), mode="reflect"),
            "shuffle": F.pixel_shuffle(x.reshape(1, 4, 2, 3), 2),
            "meshgrid": torch.meshgrid(x[0, 0], x[0, :, 0], indexing="ij")[1] + 1,
        }

    recorder = check(function, torch.arange(24.0).reshape(2, 3, 4))
    assert not unmodelled(recorder.graph())


def test_indexing() -> None:
    def function(x: Tensor, i: Tensor, j: Tensor) -> dict[str, Tensor]:
        return {
            "embedding": F.embedding(i, x),
            "index": x[i],
            "index_2": x[i, j],
            "inner": x[:, j],
            "apart": x.unsqueeze(1)[i, :, j],
            "negative": x[i - 4],
            "select": x.index_select(1, j),
            "gather": x.gather(1, j[None].expand(2, -1)),
            "along": x.take_along_dim(j[None], 1),
            "put": x.index_put((i, j), x[0, :2] + 9),
            "add": x.index_put((i,), x[:2], accumulate=True),
            "fill": x.index_put((x > 3,), torch.tensor(0.0)),
            "copy": x.index_copy(0, i, x[:2] * 2),
            "index_add": x.index_add(1, j, x[:, :2], alpha=2),
            "index_fill": x.index_fill(0, i, 7.0),
            "scatter": x.scatter(1, j[None], x + 5),
            "value": x.scatter(1, j[None], 2.5),
            "scatter_add": x.scatter_add(0, j[:, None] % 2, x),
            "one_hot": F.one_hot(i, 5),
            "reduce": x.scatter_reduce(0, i[:, None], x, "sum"),
        }

    x, i, j = torch.arange(16.0).reshape(4, 4), torch.tensor([2, 0]), torch.tensor([1, 3])
    recorder = check(function, x, i, j)
    assert not unmodelled(recorder.graph())


def test_writes_into_slices_are_functional() -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, ::2] = x[:, :2]
        y[1] += 1
        y[0, 1:3].mul_(2)
        return y

    recorder = check(function, torch.arange(8.0).reshape(2, 4))
    assert calls(recorder.graph(), "tensor.slice_scatter")
    assert not unmodelled(recorder.graph())


def test_creation() -> None:
    def function(x: Tensor) -> list[Tensor]:
        return [
            torch.zeros(2, 3) + x[0],
            torch.ones_like(x),
            torch.full((2,), 2.5),
            x.new_full((3,), 7),
            torch.full_like(x, 2, dtype=torch.int32),
            torch.arange(5),
            torch.arange(2, 9, 3),
            torch.arange(5.0),
            torch.arange(0.5, 3, 0.3),
            torch.arange(1, 4, dtype=torch.bfloat16),
            torch.linspace(-1, 1, 7),
            torch.linspace(0, 1, 5).double(),
            torch.eye(3, 4),
            torch.tensor(2.0) * x,
            torch.tensor([1.0, 2.0])[:, None] + x[:2],
            torch.empty(2).fill_(1.0),
        ]

    recorder = check(function, torch.arange(3.0))
    assert not unmodelled(recorder.graph())
    (captured, _) = recorder.captured[0]
    assert len(captured.constants) == 1, "a tensor of rank 0 is a number"
    assert captured.graph.params[-1].weight


def test_lines_and_modules_are_kept() -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.ModuleList([torch.nn.Linear(4, 4)])

        def forward(self, x: Tensor) -> Tensor:
            return self.inner[0](x) * 2

    graph = check(Block().requires_grad_(False), torch.randn(2, 4)).graph()
    (linear,) = calls(graph, "nn.linear")
    assert linear.scope == "inner.0"
    assert linear.loc.startswith("test_views.py:")
    assert [p.hint for p in graph.params if p.weight] == ["inner_0_weight", "inner_0_bias"]
    assert graph.name.startswith("test_views_")
    torch._dynamo.reset()
    again = check(Block().requires_grad_(False), torch.randn(2, 4)).graph()
    assert again.name == graph.name
