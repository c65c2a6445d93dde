"""Custom operators of torch.library: as they are, and with an op that stands for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import effcomp as ec
from effcomp.capture import capture_exported
from effcomp.errors import PluginError
from effcomp.plugins import isolated
from tests.plugins.test_custom_ops import emit, plan_for

LIBRARY = torch.library.Library("effcomp_test", "DEF")
LIBRARY.define("scaled(Tensor x, float scale=1.0) -> Tensor")
LIBRARY.define("both(Tensor x, Tensor? y, int[] dims, ScalarType dtype) -> (Tensor, Tensor)")
LIBRARY.define("whole(Tensor x, float scale=1.0) -> Tensor")
LIBRARY.define("three(Tensor x, Tensor? y, Tensor? z) -> Tensor")
LIBRARY.define("joined(Tensor x, Tensor[] parts) -> Tensor")
LIBRARY.define("into(Tensor(a!) x) -> Tensor(a!)")


def _scaled(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.relu(x).square() * scale


def _both(
    x: torch.Tensor, y: torch.Tensor | None, dims: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    total = x if y is None else x + y
    return total.to(dtype).clone(), total.sum(dims)


def _three(x: torch.Tensor, y: torch.Tensor | None, z: torch.Tensor | None) -> torch.Tensor:
    found = x if y is None else x + y
    return found.clone() if z is None else found * z


def _joined(x: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([x, *parts])


for name, function in (
    ("scaled", _scaled), ("both", _both), ("three", _three), ("joined", _joined),
):  # fmt: skip
    LIBRARY.impl(name, function, "CompositeExplicitAutograd")
LIBRARY.impl("whole", _scaled, "CompositeImplicitAutograd")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = torch.ops.effcomp_test.scaled(self.linear(x), 3.0)
        h = torch.ops.effcomp_test.whole(h)
        a, b = torch.ops.effcomp_test.both(h, None, [1], torch.float32)
        return a + 1, b, h


@pytest.fixture
def registered() -> Iterator[None]:
    def meaning(x: torch.Tensor, *, scale: float) -> torch.Tensor:
        return torch.relu(x).square() * scale

    def both_meaning(x, y=None, *, dims, dtype):
        total = x if y is None else x + y
        return total.float(), total.sum(dims)

    operators = ("effcomp_test::scaled", "effcomp_test::whole", "effcomp_test::absent")
    with isolated():

        @ec.op("test.scaled", reference=meaning, triton=emit, torch=operators)
        def scaled(x: ec.TensorType, *, scale: float = 1.0) -> ec.TensorType:
            """scale * max(x, 0)^2."""
            return x

        @ec.op("test.both", reference=both_meaning, torch="effcomp_test::both")
        def both(
            x: ec.TensorType, y: ec.TensorType | None = None, *, dims: tuple[int, ...], dtype: str
        ) -> tuple[ec.TensorType, ec.TensorType]:
            """x + y, and its sum."""
            left = tuple(s for i, s in enumerate(x.shape) if i not in dims)
            return x.with_dtype(dtype), x.with_shape(*left)

        yield


def names_of(model: torch.nn.Module, x: torch.Tensor) -> list[str]:
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    return [op.name for op in capture_exported(program).graph.ops]


def test_without_an_op_the_operators_are_calls_and_run() -> None:
    model, x = Model().eval(), torch.randn(5, 6)
    assert names_of(model, x).count("aten.call") == 2, "`whole` is taken apart, as torch does"
    with torch.no_grad():
        found = torch.compile(model, backend="effcomp")(x)
        for a, b in zip(found, model(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("registered")
def test_an_op_stands_for_them_in_both_doors() -> None:
    model, x = Model().eval(), torch.randn(5, 6)
    assert names_of(model, x) == [
        "nn.linear", "test.scaled", "test.scaled", "test.both", "tensor.constant", "tensor.add",
    ]  # fmt: skip
    for options in ({}, {"target": "cuda:90"}):
        torch._dynamo.reset()
        with torch.no_grad():
            compiled = torch.compile(model, backend="effcomp", options=options)
            for rows in (5, 7):
                x = torch.randn(rows, 6)
                for a, b in zip(compiled(x), model(x), strict=True):
                    torch.testing.assert_close(a, b)


@pytest.mark.usefixtures("registered")
def test_their_kernel_is_in_the_plan() -> None:
    with torch.no_grad():
        program = torch.export.export(Model().eval(), (torch.randn(5, 6),))
    plan = plan_for(capture_exported(program).graph, "cuda:90")
    assert [step.label for step in plan.steps if step.kind == "launch"].count("test.scaled") == 2


def test_optional_tensors_and_lists_of_them() -> None:
    class Three(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            three = torch.ops.effcomp_test.three
            h = three(three(three(x, None, None), x + 1, None), None, x)
            return torch.ops.effcomp_test.joined(h, [x, three(x, x, h)])

    def meaning(x, y=None, z=None):
        return _three(x, y, z)

    with isolated():

        @ec.op("test.three", reference=meaning, torch="effcomp_test::three")
        def three(
            x: ec.TensorType, y: ec.TensorType | None = None, z: ec.TensorType | None = None
        ) -> ec.TensorType:
            """(x + y) * z."""
            return x

        @ec.op("test.joined", reference=lambda *x: torch.cat(x), torch="effcomp_test::joined")
        def joined(*parts: ec.TensorType) -> ec.TensorType:
            """All of them, one after the other."""
            return parts[0].with_shape(sum(p.shape[0] for p in parts), *parts[0].shape[1:])

        x = torch.randn(5, 6)
        found = names_of(Three(), x)
        assert found.count("test.three") == 3
        assert found.count("aten.call") == 1, "a z without a y"
        assert found[-1] == "test.joined"
        torch._dynamo.reset()
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(Three(), backend="effcomp")(x), Three()(x))


def test_operators_that_an_op_cannot_stand_for() -> None:
    def claim(operator: str, name: str = "") -> None:
        @ec.op(name or f"test.{operator}", torch=f"effcomp_test::{operator}")
        def one(x: ec.TensorType) -> ec.TensorType:
            return x

    class Joins(Model):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (*super().forward(x), torch.ops.effcomp_test.joined(x, [x]))

    model, x = Joins().eval(), torch.randn(5, 6)
    for operator, reason in (
        ("into", "writes in place; only functional operators have ops"),
        ("scaled", "has no attribute 'scale' as that has"),
        ("both", "takes 2 tensors: x, y"),
        ("joined", "which takes a list, parts: let the op end in"),
    ):
        with isolated():
            claim(operator)
            with pytest.raises(PluginError, match=reason):
                names_of(model, x)
    with isolated():
        claim("whole")
        with pytest.raises(PluginError, match=r"by op .* and by op"):
            claim("whole", "test.again")
