"""Ops of one's own: declared, traced, emitted, captured; run by CPU plans and interpreted ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl
from triton.language import cdiv

import effcomp as ec
from effcomp import compiling
from effcomp.errors import LoweringError, PluginError
from effcomp.ir import Graph, parse_graph, verify
from effcomp.plan.schema import Launch, Plan
from effcomp.plugins import isolated
from effcomp.reference import evaluate
from effcomp.runtime import load
from effcomp.target import TARGETS

BLOCK = 32


@triton.jit
def _square(x):
    return x * x


@triton.jit
def squared_relu_kernel(x_ptr, out_ptr, n, scale: tl.constexpr, BLOCK: tl.constexpr):
    reference = 0  # as a function of the module is called
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, _square(tl.maximum(x, 0.0)) * scale + reference, mask=offsets < n)


def reference(x: torch.Tensor, *, scale: float) -> torch.Tensor:
    return torch.relu(x).square() * scale


def emit(op: ec.Op, target: object) -> object:
    x, out = op.operands[0], op.result
    if x.dtype == "f64":
        return ec.Refused("float64 is slow")
    n = out.tensor.numel
    constants = {"scale": ec.attr(op, "scale"), "BLOCK": BLOCK}
    return ec.launch(
        squared_relu_kernel, [x, out, n], grid=ec.ceil_div(n, BLOCK), constants=constants
    )


@pytest.fixture
def squared_relu() -> Iterator[ec.OpSpec]:
    with isolated():

        @ec.op("test.squared_relu", reference=reference, triton=emit)
        def squared_relu(x: ec.TensorType, *, scale: float = 1.0) -> ec.TensorType:
            """scale * max(x, 0)^2."""
            ec.require(x.dtype != "bool", f"{x} is no float")
            return x

        yield squared_relu


def graph_of(dtype: str = "f32") -> Graph:
    graph = parse_graph(f"""
graph @g(%x: {dtype}[s0, 6]) {{
  %0 = tensor.permute(%x) {{dims = [1, 0]}} : {dtype}[6, s0]
  %1 = test.squared_relu(%0) {{scale = 3.0}} : {dtype}[6, s0] loc "model.py:5"
  %2 = test.squared_relu(%x) : {dtype}[s0, 6]
  %3 = tensor.neg(%2) : {dtype}[s0, 6]
  return %1, %3
}}
""")
    verify(graph)
    return graph


def plan_for(graph: Graph, target: str) -> Plan:
    from effcomp.passes.pipelines import pipeline_for

    pipeline = pipeline_for(TARGETS[target], training=False, horizontal_rows=0)
    return compiling.build_plan(graph, TARGETS[target], pipeline)


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
@pytest.mark.usefixtures("squared_relu")
def test_both_kinds_of_plan_compute_what_the_oracle_does(target: str) -> None:
    graph = graph_of()
    plan = plan_for(graph, target)
    launches = [s for s in plan.steps if isinstance(s, Launch) and s.label == "test.squared_relu"]
    assert len(launches) == (2 if target == "cuda:90" else 0)
    run = load(plan, torch.device("cpu"), regions="never")
    for rows in (5, 70):
        x = torch.randn(rows, 6)
        expected = [reference(x.t(), scale=3.0), -reference(x, scale=1.0)]
        for a, b, c in zip(run([x]), evaluate(graph, [x]), expected, strict=True):
            torch.testing.assert_close(a, c)
            torch.testing.assert_close(b, c)


@pytest.mark.usefixtures("squared_relu")
def test_a_kernel_is_a_module_that_stands_alone() -> None:
    plan = plan_for(graph_of(), "cuda:90")
    kernels = [k for k in plan.kernels if k.function == "squared_relu_kernel"]
    assert len(kernels) == 2, "one a constant"
    assert kernels[0].source.startswith("import triton\nimport triton.language as tl\n")
    assert kernels[0].source.index("def _square") < kernels[0].source.index(
        "def squared_relu_kernel"
    )


@pytest.mark.usefixtures("squared_relu")
def test_an_emitter_that_refuses_leaves_a_note_and_the_calls() -> None:
    graph = graph_of("f64")
    plan = plan_for(graph, "cuda:90")
    assert any("test.squared_relu runs as library calls (model.py:5): float64 is slow" in n
               for n in plan.notes)  # fmt: skip
    x = torch.randn(4, 6, dtype=torch.float64)
    found = load(plan, torch.device("cpu"), regions="never")([x])
    torch.testing.assert_close(found[0], reference(x.t(), scale=3.0))


def declare(**options: object) -> ec.OpSpec:
    @ec.op("test.other", **options)  # type: ignore[arg-type]
    def other(x: ec.TensorType, *, k: int = 1) -> ec.TensorType:
        """Nothing in particular."""
        return x

    return other


def evaluated(text: str, *args: object) -> list[object]:
    graph = parse_graph(text)
    verify(graph)
    return list(evaluate(graph, args))  # type: ignore[arg-type]


OTHER = """graph @g(%x: f32[s0 * 2, 4]) {
  %0 = test.other(%x) : f32[s0 * 2, 4]
  return %0
}
"""


def in_place(x: torch.Tensor, *, k: int) -> torch.Tensor:
    return x.clone().mul_(2)


def wrong_type(x: torch.Tensor, *, k: int) -> torch.Tensor:
    return x.sum(0)


def asks(x: torch.Tensor, *, k: int) -> torch.Tensor:
    return x * 2 if x.shape[0] > 10_000 else x


def asks_whether_even(x: torch.Tensor, *, k: int) -> torch.Tensor:
    return x * 2 if x.shape[0] % 4 == 0 else x


def draws(x: torch.Tensor, *, k: int) -> torch.Tensor:
    return torch.rand_like(x)


def fails(x: torch.Tensor, *, k: int) -> torch.Tensor:
    raise KeyError("nothing here")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (in_place, r"writes in place \(aten.mul_.Tensor\); a reference is functional"),
        (wrong_type, r"returns f32\[4\] where the op declares f32\[s0\*2, 4\]|returns f32\[4\]"),
        (asks, "asks whether .*s0.*10000.*, which a plan for every size cannot"),
        (asks_whether_even, "asks whether .* % 4.* == 0, which a plan for every size cannot"),
        (draws, "draws random numbers .*: declare the op without Trait.PURE"),
        (fails, "cannot be traced: KeyError: 'nothing here'"),
        (None, "of module 'tests' has no `reference=`, so nothing can run it here"),
    ],
)
def test_a_reference_that_cannot_be_used_says_why(reference: object, reason: str) -> None:
    with isolated():
        declare(reference=reference)
        with pytest.raises(LoweringError, match=reason):
            evaluated(OTHER, torch.randn(4, 4))


def of_sizes(x: torch.Tensor, *, k: int) -> torch.Tensor:
    rows = x.shape[0]
    pairs = x.unflatten(0, (-1, 2)) + torch.arange(rows // 2)[:, None, None]
    first, second = pairs.to(torch.float64).unbind(1)
    joined = torch.stack([second, first * torch.tensor(2.0)], dim=1)
    return torch.nn.functional.linear(joined.reshape(rows, 4).float(), torch.eye(4)) + k


def test_a_reference_may_compute_with_sizes_and_lists() -> None:
    with isolated():
        declare(reference=of_sizes)
        for rows in (2, 6):
            x = torch.randn(4, rows).t()
            (found,) = evaluated(OTHER.replace("s0 * 2", "s0"), x)
            torch.testing.assert_close(found, of_sizes(x.contiguous(), k=1))


def test_names_that_are_taken_or_have_no_namespace() -> None:
    with isolated():
        declare()
        declare()  # a cell that is run again
        with pytest.raises(PluginError, match=r"op 'test.other' is registered by module 'tests'"):

            @ec.op("test.other")
            def another(x: ec.TensorType) -> ec.TensorType:
                return x

    with isolated(), pytest.raises(PluginError, match="declared by effcomp itself and by module"):

        @ec.op("nn.linear")
        def linear(x: ec.TensorType) -> ec.TensorType:
            return x

    with pytest.raises(PluginError, match="needs a namespace of its own"):
        ec.op("other")
    with pytest.raises(PluginError, match="an elementwise op is computed inside other kernels"):
        ec.op("test.e", ec.Trait.PURE | ec.Trait.ELEMENTWISE, triton=emit)


def kernel_with_a_module(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr, pytest)


SCALE = 3
jit = triton.jit


@jit
def kernel_with_names(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr, cdiv(_square(SCALE), BLOCK))


@triton.autotune([triton.Config({"BLOCK": 1})], key=[])
@triton.jit
def tuned_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr, BLOCK)


def test_a_kernel_may_be_spelt_in_several_ways() -> None:
    x = ec.Value(ec.TensorType("f32", (4,)))
    made = ec.launch(kernel_with_names, [x], grid=(1, 2), constants={"BLOCK": 2})
    source = made.kernel.source
    assert "SCALE = tl.constexpr(3)\n" in source
    assert "import cdiv\n" in source
    assert source.endswith("\n    tl.store(x_ptr, cdiv(_square(SCALE), BLOCK))\n")
    assert source.count("@triton.jit\ndef ") == 2
    again = ec.launch(
        source, [x], grid=(1, 2), constants={"BLOCK": 2}, function="kernel_with_names"
    )
    assert again.kernel == made.kernel
    assert again.grid == (1, 2, 1)


@pytest.mark.parametrize(
    ("kernel", "constants", "reason"),
    [
        (tuned_kernel, {"BLOCK": 1}, "is tuned when it runs"),
        (triton.jit(kernel_with_a_module), {"BLOCK": 1}, "names 'pytest', a module"),
        (squared_relu_kernel, {"BLOCK": 1}, "needs the constant 'scale'"),
        (squared_relu_kernel, {"BLOCK": 1, "scale": 1.0, "wide": 2}, "no parameter 'wide'"),
        (
            squared_relu_kernel,
            {"BLOCK": 1, "scale": 1.0},
            r"3 arguments \(x_ptr, .*, got 2",
        ),
        (len, {}, "is no @triton.jit function"),
        ("def f(:", {}, "is no Python"),
    ],
)
def test_a_kernel_that_cannot_be_launched_says_why(
    kernel: object, constants: dict[str, object], reason: str
) -> None:
    x = ec.Value(ec.TensorType("f32", (4,)))
    args = [x] if "module" in reason else [x, x]
    with pytest.raises(LoweringError, match=reason):
        ec.launch(kernel, args, grid=1, constants=constants, function="f")


@pytest.mark.parametrize(
    ("emitter", "reason"),
    [
        (lambda op, target: None, "neither effcomp.launch"),
        (lambda op, target: {}["x"], "its emitter failed: KeyError"),
        (lambda op, target: ec.launch(squared_relu_kernel, [op.operands[0], op.operands[0], 1],
                                      grid=1, constants={"scale": 1, "BLOCK": 1}),
         "does not take the result"),
    ],
)  # fmt: skip
def test_an_emitter_that_errs_is_named_with_the_op(emitter: object, reason: str) -> None:
    with isolated():
        declare(reference=lambda x, *, k: x * k, triton=emitter)
        text = OTHER.replace("[s0 * 2, 4]\n  return", '[s0 * 2, 4] loc "model.py:7"\n  return')
        with pytest.raises(LoweringError, match=reason) as raised:
            plan_for(parse_graph(text), "cuda:90")
        assert "model.py:7" in str(raised.value)


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
def test_an_elementwise_op_is_computed_inside_groups(target: str) -> None:
    text = """graph @g(%x: f32[s0, 8], %y: f32[8]) {
  %0 = tensor.exp(%x) : f32[s0, 8]
  %1 = test.blend(%0, %y) {alpha = 0.25} : f32[s0, 8]
  %2 = tensor.sum(%1) {dims = [1]} : f32[s0]
  return %2
}
"""
    with isolated():

        @ec.op(
            "test.blend",
            ec.Trait.PURE | ec.Trait.ELEMENTWISE,
            reference=lambda a, b, *, alpha: a * alpha + b * (1 - alpha),
            triton="{a} * {alpha} + {b} * (1.0 - {alpha})",
        )
        def blend(a: ec.TensorType, b: ec.TensorType, *, alpha: float) -> ec.TensorType:
            """alpha a + (1 - alpha) b."""
            return a

        graph = parse_graph(text)
        plan = plan_for(graph, target)
        assert len(plan.steps) == 1, "one kernel, or one region"
        x, y = torch.randn(5, 8), torch.randn(8)
        (found,) = load(plan, torch.device("cpu"), regions="never")([x, y])
        torch.testing.assert_close(found, (x.exp() * 0.25 + y * 0.75).sum(1))


def test_an_expression_that_names_what_is_not_there() -> None:
    traits = ec.Trait.PURE | ec.Trait.ELEMENTWISE
    with isolated(), pytest.raises(PluginError, match="names 'beta'; it may name alpha, x"):

        @ec.op("test.e", traits, triton="{x} * {beta}")
        def one(x: ec.TensorType, *, alpha: float = 1.0) -> ec.TensorType:
            return x

    with pytest.raises(PluginError, match="an elementwise op is computed inside other kernels"):
        ec.op("test.e", traits)


@pytest.mark.usefixtures("squared_relu")
def test_an_op_is_exported_to_mlir_by_its_reference() -> None:
    pytest.importorskip("torch_mlir")
    from effcomp.mlir import export

    text = "graph @g(%x: f32[4, 8]) {\n  %0 = test.squared_relu(%x) : f32[4, 8]\n  return %0\n}\n"
    found = export(parse_graph(text), "torch")
    assert "torch.aten.relu" in found
