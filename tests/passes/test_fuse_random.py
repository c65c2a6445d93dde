"""Random programs: groups are legal, make no cycle, and compute what the ops did."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effcomp.ir import SPECS, Graph, Level, Op, TensorType, Value, verify
from effcomp.ir.dims import same_shape
from effcomp.passes.fuse_epilogue import FuseEpilogue
from effcomp.passes.fuse_pointwise import FusePointwise
from effcomp.passes.fuse_rowwise import FuseRowwise
from effcomp.passes.grouping.rows import check_rows, common_rows
from effcomp.reference import evaluate
from effcomp.rewrite import Pipeline
from effcomp.target import TARGETS

UNARY = ("tensor.neg", "tensor.tanh", "nn.silu", "tensor.abs", "tensor.sigmoid")
BINARY = ("tensor.add", "tensor.sub", "tensor.mul", "tensor.maximum")


class Builder:
    """Draws ops one after another; every value is f32 of small size."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw
        self.params = [
            Value(TensorType("f32", shape), f"p{i}")
            for i, shape in enumerate(((2, 3, 8), (2, 3, 8), (8,), (2, 1, 8), (8, 8)))
        ]
        self.values = list(self.params)
        self.ops: list[Op] = []

    def number(self, below: int) -> int:
        return self._draw(st.integers(0, below - 1))

    def pick(self) -> Value:
        return self.values[self.number(len(self.values))]

    def emit(self, name: str, *operands: Value, **attrs: object) -> Value:
        op = SPECS[name].build(*operands, **attrs)  # pyright: ignore[reportArgumentType]
        self.ops.append(op)
        self.values += op.results
        return op.results[0]

    def step(self) -> None:
        kinds = (
            self.unary, self.unary, self.binary, self.binary, self.binary, self.reduce, self.norm,
            self.reshape, self.permute, self.slice, self.concat, self.constant, self.linear,
            self.broadcast, self.write,
        )  # fmt: skip
        kinds[self.number(len(kinds))]()

    def unary(self) -> None:
        self.emit(UNARY[self.number(len(UNARY))], self.pick())

    def binary(self) -> None:
        a = self.pick()
        fitting = [v for v in self.values if broadcastable(a.shape, v.shape)]
        b = fitting[self.number(len(fitting))]
        self.emit(BINARY[self.number(len(BINARY))], a, b)

    def reduce(self) -> None:
        x = self.pick()
        if x.shape:
            name = ("tensor.sum", "tensor.mean", "tensor.amax")[self.number(3)]
            dims = (self.number(len(x.shape)),)
            self.emit(name, x, dims=dims, keepdim=bool(self.number(4)))

    def norm(self) -> None:
        x = self.pick()
        if not x.shape:
            return
        if self.number(2):
            self.emit("nn.softmax", x, dim=self.number(len(x.shape)))
        else:
            self.emit("nn.layer_norm", x, eps=1e-5)

    def reshape(self) -> None:
        x = self.pick()
        shape = x.shape
        if len(shape) > 1 and self.number(2):
            at = self.number(len(shape) - 1)
            shape = (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
        elif shape and shape[-1] == 8:
            shape = (*shape[:-1], 2, 4)
        else:
            shape = (*shape, 1)
        self.emit("tensor.reshape", x, shape=shape)

    def permute(self) -> None:
        x = self.pick()
        dims = tuple(range(len(x.shape)))
        turn = self.number(len(dims)) if dims else 0
        self.emit("tensor.permute", x, dims=dims[turn:] + dims[:turn])

    def slice(self) -> None:
        x = self.pick()
        if x.shape:
            at = self.number(len(x.shape))
            size = x.shape[at]
            assert isinstance(size, int)
            start = self.number(size)
            self.emit("tensor.slice", x, dim=at, start=start, stop=size)

    def concat(self) -> None:
        a = self.pick()
        if not a.shape:
            return
        at = self.number(len(a.shape))
        fitting = [
            v
            for v in self.values
            if len(v.shape) == len(a.shape)
            and same_shape(v.shape[:at], a.shape[:at])
            and same_shape(v.shape[at + 1 :], a.shape[at + 1 :])
        ]
        self.emit("tensor.concat", a, fitting[self.number(len(fitting))], dim=at)

    def broadcast(self) -> None:
        x = self.pick()
        if len(x.shape) < 4:
            self.emit("tensor.broadcast", x, shape=(2, *x.shape))

    def constant(self) -> None:
        self.emit("tensor.constant", value=0.5, dtype="f32")

    def linear(self) -> None:
        x = self.pick()
        if x.shape and x.shape[-1] == 8:
            self.emit("nn.linear", x, self.params[4])

    def write(self) -> None:
        """Overwrite the first param; a program does that once at most, after everything so far."""
        fitting = [v for v in self.values[5:] if same_shape(v.shape, self.params[0].shape)]
        if fitting and not any(op.name == "state.write" for op in self.ops):
            op = SPECS["state.write"].build(self.params[0], fitting[self.number(len(fitting))])
            self.ops.append(op)
            # What is a view of the param now may or may not show the write: it is not read again.
            self.values = [v for v in self.values if v is not self.params[0]]
            stale = {self.params[0]}
            for made in self.ops:
                if made.operands and made.operands[0] in stale and "VIEW" in str(traits(made)):
                    stale.update(made.results)
            self.values = [v for v in self.values if v not in stale]


def traits(op: Op) -> object:
    return SPECS[op.name].traits


def broadcastable(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


@st.composite
def programs(draw: Callable[..., int]) -> Graph:
    builder = Builder(draw)
    for _ in range(draw(st.integers(4, 22))):
        builder.step()
    made = [v for v in builder.values if v not in builder.params] or builder.values
    outputs = tuple(made[-1 - i] for i in range(min(len(made), draw(st.integers(1, 3)))))
    return Graph("random", tuple(builder.params), tuple(builder.ops), outputs)


def check_groups(graph: Graph) -> None:
    """Every group is what its kind promises."""
    for op in graph.ops:
        if op.body is None:
            continue
        shapes = [v.shape for v in op.body.outputs]
        match op.name:
            case "fused.pointwise":
                assert all(same_shape(s, shapes[0]) for s in shapes)
            case "fused.rowwise":
                check_rows(op.body.ops, op.body.outputs, common_rows(op.body.ops))
            case _:
                assert op.body.ops[0].name in ("nn.linear", "tensor.matmul")
                assert set(op.body.ops[0].operands) <= set(op.body.params)


def arguments(graph: Graph) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tuple(v.shape), generator=generator) for v in graph.params]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("target", ["cuda:90", "cpu"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(graph=programs())
def test_groups_compute_the_same(target: str, graph: Graph) -> None:
    verify(graph)
    device = TARGETS[target]
    passes = (FuseRowwise(device), FuseEpilogue(device), FusePointwise(device))
    after = Pipeline(passes).run(graph).graph
    verify(after, Level.KERNEL)
    check_groups(after)
    before_args, after_args = arguments(graph), arguments(graph)
    expected, found = evaluate(graph, before_args), evaluate(after, after_args)
    for want, got in zip((*expected, *before_args), (*found, *after_args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5, equal_nan=True)
