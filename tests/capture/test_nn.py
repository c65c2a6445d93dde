"""Products, norms, attention, convolutions, reductions: what is kept whole, and what is not."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effcomp.capture import Role
from effcomp.ir import Graph
from tests.capture.recording import Recorder, calls, check, unmodelled


def test_reductions() -> None:
    def function(x: Tensor, i: Tensor) -> dict[str, object]:
        return {
            "sum": x.sum(),
            "sum_dim": x.sum(-1),
            "keep": x.sum((0, 2), keepdim=True),
            "ints": i.sum(),
            "flags": (x > 0).sum(1),
            "as_double": x.sum(0, dtype=torch.float64),
            "mean": x.mean((1, 2)),
            "mean_all": x.mean(),
            "amax": x.amax(1),
            "amin": x.amin(),
            "max": list(x.max(1)),
            "max_all": x.max(),
            "min": list(x.min(-1, keepdim=True)),
            "prod": x.prod(2),
            "any": (x > 9).any(),
            "all": (x > -9).all(1),
            "argmax": x.argmax(1),
            "argmax_all": x.argmax(),
            "var": x.var(1),
            "var_0": x.var((0, 1), correction=0),
            "std": x.std(-1, keepdim=True),
            "norm": x.norm(dim=1),
            "norm_1": torch.linalg.vector_norm(x, 1, (0, 1)),
            "logsumexp": x.logsumexp(1),
            "var_mean": list(torch.var_mean(x, 2)),
            "cumsum": x.cumsum(1),
            "cumsum_ints": i.cumsum(0),
            "topk": list(x.topk(2, 1)),
            "sort": list(x.sort(1, descending=True)),
            "argsort": x.argsort(0),
            "normalize": F.normalize(x, dim=1),
            "count": torch.count_nonzero(i),
            "none": x[0, 0, 0].sum(),
        }

    recorder = check(function, torch.randn(2, 5, 3), torch.tensor([3, 0, 4], dtype=torch.int32))
    assert not unmodelled(recorder.graph())


def test_products() -> None:
    def function(x: Tensor, y: Tensor, w: Tensor, v: Tensor) -> dict[str, Tensor]:
        return {
            "matrix": x[0] @ y[0],
            "batch": x @ y,
            "wide": x[:, None] @ y[None],
            "vector": x @ v,
            "from_vector": v @ y,
            "dot": v @ v,
            "by_weight": x @ w.t(),
            "by_matrix": x @ y[0],
            "linear": F.linear(x, w, w[:, 0]),
            "addmm": torch.addmm(x[0, :, :1], x[0], y[0], beta=2),
            "baddbmm": torch.baddbmm(x[..., :1], x, y, alpha=0.5),
            "einsum": torch.einsum("bik,bkj->bji", x, y),
            "outer": torch.outer(v, v),
            "mv": torch.mv(w, v),
        }

    recorder = check(
        function, torch.randn(2, 3, 4), torch.randn(2, 4, 5), torch.randn(3, 4), torch.randn(4)
    )
    assert not unmodelled(recorder.graph())


def test_norms_stay_whole() -> None:
    def function(x: Tensor, w: Tensor, c: Tensor, m: Tensor) -> list[Tensor]:
        return [
            F.layer_norm(x, (4,), w, w),
            F.layer_norm(x, (6, 4)),
            F.rms_norm(x, (4,), w),
            F.rms_norm(x, (4,), eps=1e-3),
            F.group_norm(x, 3, c, c),
            x.softmax(-1),
            F.softmax(x, 1, dtype=torch.float64),
            x.log_softmax(0),
            F.batch_norm(x, m, m + 1, c, c),
            F.instance_norm(x),
            F.local_response_norm(x, 2),
        ]

    x, c = torch.randn(2, 6, 4), torch.randn(6)
    graph = check(function, x, torch.randn(4), c, torch.rand(6)).graph()
    names = [op.name for op in graph.ops]
    assert names.count("nn.layer_norm") == 2
    assert names.count("nn.rms_norm") == 2
    assert names.count("nn.softmax") == 2
    assert "nn.group_norm" in names


def test_rms_norm_takes_torchs_epsilon() -> None:
    graph = check(lambda x: F.rms_norm(x, (4,)), torch.randn(2, 4).bfloat16()).graph()
    assert calls(graph, "nn.rms_norm")[0].attrs["eps"] == torch.finfo(torch.float32).eps


def test_attention() -> None:
    def function(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> list[Tensor]:
        attend = F.scaled_dot_product_attention
        return [
            attend(q, k, v),
            attend(q, k, v, scale=0.3),
            attend(q, k, v, mask),
            attend(q, q, q, is_causal=True),
            attend(q, k, v, mask.float()),
            attend(q, k[:, :1], v[:, :1], enable_gqa=True),
            attend(q[0], k[0], v[0]),
        ]

    q, k, v = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8)
    graph = check(function, q, k, v, torch.rand(3, 5) > 0.2).graph()
    assert not unmodelled(graph)
    assert calls(graph, "nn.attention")[0].attrs["scale"] == 1 / math.sqrt(8)


def test_convolutions_and_resizing() -> None:
    def function(x: Tensor, w: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {
            "plain": F.conv2d(x, w, b),
            "strided": F.conv2d(x, w, None, 2, 1),
            "same": F.conv2d(x, w, padding="same"),
            "even": F.conv1d(x[:, :, 0], w[:, :, 0, :2], padding="same"),
            "groups": F.conv2d(x, w[:4, :1], groups=4),
            "transposed": F.conv_transpose2d(x, w.transpose(0, 1), stride=2, output_padding=1),
            "dilated": F.conv2d(x, w, dilation=(2, 1)),
            "nearest": F.interpolate(x, scale_factor=2.0),
            "to_size": F.interpolate(x, size=(5, 9)),
            "bilinear": F.interpolate(x, scale_factor=2, mode="bilinear"),
            "bicubic": F.interpolate(x, size=(9, 7), mode="bicubic"),
            "pool": F.adaptive_avg_pool2d(x, 1),
        }

    recorder = check(function, torch.randn(2, 4, 6, 6), torch.randn(8, 4, 3, 3), torch.randn(8))
    assert not unmodelled(recorder.graph())


def test_channels_last_layouts_are_kept() -> None:
    def function(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x * 2, w).relu()

    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    graph = check_layout(function, x, torch.randn(8, 4, 3, 3))
    assert graph.params[0].strides == (144, 1, 24, 4)


def check_layout(function: Callable[..., Tensor], *args: Tensor) -> Graph:
    """Like `check`, but the traced output's layout is what counts, not what the oracle returns."""
    recorder = Recorder()
    with torch.no_grad():
        found = torch.compile(function, backend=recorder.backend)(*args)
        expected = function(*args)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    graph = recorder.graph()
    assert graph.layout_of_output(0) == expected.stride()
    return graph


def test_training_gives_eagers_gradients() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 8)
            self.norm, self.rms = nn.LayerNorm(8), nn.RMSNorm(8)
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8, bias=False)
            self.conv, self.group = nn.Conv1d(8, 8, 3, padding=1), nn.GroupNorm(2, 8)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens)
            q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            x = F.silu(self.group(self.conv(x.transpose(1, 2)))).transpose(1, 2)
            return F.gelu(self.rms(x)).softmax(-1)[:, 1:].log().mean()

    torch.manual_seed(0)
    model, recorder = Block(), Recorder()
    tokens = torch.randint(0, 10, (2, 5))
    loss = torch.compile(model, backend=recorder.backend, fullgraph=True)(tokens)
    gradients = torch.autograd.grad(loss, [*model.parameters()])
    expected = torch.autograd.grad(model(tokens), [*model.parameters()])
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    forward = recorder.graph(Role.FORWARD)
    assert {"nn.layer_norm", "nn.linear", "nn.softmax", "nn.group_norm", "nn.conv"} <= {
        o.name for o in forward.ops
    }
    assert unmodelled(forward) == ["aten._scaled_dot_product_flash_attention_for_cpu.default"]
    assert sorted(set(unmodelled(recorder.graph(Role.BACKWARD)))) == [
        "aten._scaled_dot_product_flash_attention_for_cpu_backward.default",
        "aten.convolution_backward.default",
    ]
