"""Random groups: views, joins, arithmetic and reductions, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effcomp.ir import SPECS, Graph, Op, Value
from effcomp.ir.types import TensorType
from tests.codegen.triton.running import check, tensor

SHAPES = [(2, 3, 4), (6, 4), (4, 6), (1, 24), (2, 12)]
UNARY = ["tensor.neg", "tensor.tanh", "nn.silu", "tensor.abs", "tensor.floor", "tensor.relu"]
BINARY = ["tensor.add", "tensor.mul", "tensor.maximum", "tensor.sub"]
QUICK = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


class Chain:
    """Ops on one value after another, over two params."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.params = (Value(TensorType("f32", shape), "x"), Value(TensorType("f32", shape), "y"))
        self.ops: list[Op] = []
        self.value = self.params[0]

    def add(self, name: str, *operands: Value, **attrs: object) -> None:
        op = SPECS[name].build(*(operands or (self.value,)), **attrs)  # type: ignore[arg-type]
        self.ops.append(op)
        self.value = op.result

    def graph(self, kind: str) -> Graph:
        body = Graph("body", self.params, tuple(self.ops), (self.value,))
        given = tuple(Value(p.type, p.hint) for p in self.params)
        group = SPECS[f"fused.{kind}"].build(*given, body=body)
        return Graph("g", given, (group,), group.results)


def _reshape(chain: Chain, draw: Callable[..., int]) -> None:
    n = chain.value.tensor.numel
    assert isinstance(n, int)
    shapes = [(n,), *((a, n // a) for a in (2, 3, 4) if n % a == 0), (1, n, 1)]
    chain.add("tensor.reshape", shape=shapes[draw(st.integers(0, len(shapes) - 1))])


def _permute(chain: Chain, draw: Callable[..., int]) -> None:
    rank = len(chain.value.shape)
    first = draw(st.integers(0, rank - 1))
    chain.add("tensor.permute", dims=(first, *(d for d in reversed(range(rank)) if d != first)))


def _slice(chain: Chain, draw: Callable[..., int]) -> None:
    dim = draw(st.integers(0, len(chain.value.shape) - 1))
    size = int(chain.value.shape[dim])
    start = draw(st.integers(0, size - 1))
    chain.add("tensor.slice", dim=dim, start=start, stop=size, step=draw(st.integers(1, 2)))


def _flip(chain: Chain, draw: Callable[..., int]) -> None:
    chain.add("tensor.flip", dims=(draw(st.integers(0, len(chain.value.shape) - 1)),))


def _concat(chain: Chain, draw: Callable[..., int]) -> None:
    dim = draw(st.integers(0, len(chain.value.shape) - 1))
    before = chain.value
    chain.add("tensor.exp2" if draw(st.booleans()) else "tensor.sin")
    chain.add("tensor.concat", before, chain.value, dim=dim)


def _pad(chain: Chain, draw: Callable[..., int]) -> None:
    rank = len(chain.value.shape)
    low = tuple(draw(st.integers(0, 2)) for _ in range(rank))
    high = tuple(draw(st.integers(0, 1)) for _ in range(rank))
    chain.add("tensor.pad", low=low, high=high, value=0.5)


def _unary(chain: Chain, draw: Callable[..., int]) -> None:
    chain.add(UNARY[draw(st.integers(0, len(UNARY) - 1))])


def _with_param(chain: Chain, draw: Callable[..., int]) -> None:
    if chain.value.shape == chain.params[1].shape:
        name = BINARY[draw(st.integers(0, len(BINARY) - 1))]
        chain.add(name, chain.value, chain.params[1])


VIEWS = [_reshape, _permute, _slice, _flip, _concat, _pad, _unary, _with_param]


@QUICK
@given(st.data())
def test_pointwise(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    chain = Chain(shape)
    for _ in range(data.draw(st.integers(1, 6))):
        data.draw(st.sampled_from(VIEWS))(chain, data.draw)
    if not chain.ops:
        chain.add("tensor.abs")
    check(chain.graph("pointwise"), tensor("f32", *shape), tensor("f32", *shape).cos())


STATISTICS = ["tensor.sum", "tensor.amax", "tensor.mean", "nn.softmax", "nn.log_softmax"]


@QUICK
@given(st.data())
def test_rowwise(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    dim = data.draw(st.integers(0, len(shape) - 1))
    chain = Chain(shape)
    for _ in range(data.draw(st.integers(1, 3))):
        before = chain.value
        name = data.draw(st.sampled_from(STATISTICS))
        if name.startswith("nn."):
            chain.add(name, dim=dim)
        else:
            chain.add(name, dims=(dim,), keepdim=True)
            chain.add("tensor.sub", before, chain.value)
        _unary(chain, data.draw)
        _with_param(chain, data.draw)
    x, y = tensor("f32", *shape), torch.sin(tensor("f32", *shape))
    check(chain.graph("rowwise"), x, y, tolerance=(1e-5, 1e-5))
