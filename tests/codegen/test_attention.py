"""Attention of few queries over many keys: our kernels, against the oracle and for a GPU."""

from __future__ import annotations

import pytest
import torch

from effcomp.codegen import lower_graph
from effcomp.codegen.layout import strides_of
from effcomp.codegen.program import settle_layouts
from effcomp.ir import Graph, Level, parse_graph, verify
from effcomp.plan.schema import CallStep, Launch, Plan
from effcomp.reference import evaluate, region_of
from effcomp.runtime import load
from effcomp.target import TARGETS

H200 = TARGETS["cuda:90"]
TOLERANCE = {"f32": 2e-6, "f16": 2e-3}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bool": torch.bool}


def graph(
    dtype: str = "f32", queries: int = 1, keys: int = 640, heads: int = 4, mask: str = "",
    causal: bool = False,
) -> Graph:  # fmt: skip
    """Two batches, two key heads; `mask` is its type, "" for none."""
    given = f", %m: {mask}" if mask else ""
    read = ", %m" if mask else ""
    attrs = f"causal = {str(causal).lower()}, scale = 0.25"
    q, k = f"{dtype}[2, {heads}, {queries}, 16]", f"{dtype}[2, 2, {keys}, 16]"
    text = f"""graph @g(%q: {q}, %k: {k}, %v: {k}{given}) {{
      %o.0 = nn.attention(%q, %k, %v{read}) {{{attrs}}} : {q}
      return %o.0
    }}"""
    made = parse_graph(text)
    verify(made, Level.KERNEL)
    return made


def plan_of(made: Graph) -> Plan:
    return lower_graph(made, H200, region_of=region_of)


def is_ours(plan: Plan) -> bool:
    return any(isinstance(step, Launch) for step in plan.steps)


def arguments(made: Graph) -> list[torch.Tensor]:
    torch.manual_seed(0)
    args: list[torch.Tensor] = []
    for v in made.params:
        shape = [int(size) for size in v.shape]
        noise = torch.randn(shape)
        args.append(noise > 0 if v.dtype == "bool" else noise.to(DTYPES[v.dtype]))
    return args


MASKS = ["", "bool[1, 1, {m}, {n}]", "bool[2, 4, {m}, {n}]", "{t}[{m}, {n}]"]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("dtype", "queries", "keys"), [("f32", 1, 640), ("f16", 3, 523)])
def test_agrees_with_the_oracle(dtype: str, queries: int, keys: int, mask: str) -> None:
    made = graph(dtype, queries, keys, mask=mask.format(t=dtype, m=queries, n=keys))
    plan = plan_of(made)
    assert [s.kind for s in plan.steps] == ["launch", "launch"]
    args = arguments(made)
    exact = graph("f32", queries, keys, mask=mask.format(t="f32", m=queries, n=keys))
    expected = evaluate(exact, [a.float() if a.is_floating_point() else a for a in args])
    (found,) = load(plan, torch.device("cpu"))(list(args))
    error = (found.float() - expected[0]).abs().max()
    assert error < TOLERANCE[dtype], error


def test_a_row_that_may_look_at_nothing_is_zero() -> None:
    made = graph(mask="bool[1, 1, 1, 640]")
    q, k, v, mask = arguments(made)
    mask[:] = False
    (found,) = load(plan_of(made), torch.device("cpu"))([q, k, v, mask])
    assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize(
    "made",
    [graph(keys=128), graph(queries=40), graph(queries=2, causal=True)],
    ids=["few keys", "many queries", "causal"],
)
def test_the_rest_is_the_librarys(made: Graph) -> None:
    plan = plan_of(made)
    assert not is_ours(plan)
    assert all(isinstance(step, CallStep) for step in plan.steps)


def test_grouped_heads_in_float32_come_back_row_major() -> None:
    """No fused kernel takes them: torch composes products. In 16 bits cuDNN keeps q's order."""
    found: dict[str, tuple[object, ...]] = {}
    for dtype in ("f32", "f16"):
        q, k = f"{dtype}[2, 4, 640, 16]", f"{dtype}[2, 2, 640, 16]"
        made = parse_graph(f"""graph @g(%x: {dtype}[2, 640, 4, 16], %k: {k}, %v: {k}) {{
          %q.0 = tensor.permute(%x) {{dims = [0, 2, 1, 3]}} : {q}
          %o.1 = nn.attention(%q.0, %k, %v) {{causal = true, scale = 0.25}} : {q}
          return %o.1
        }}""")
        (op,) = (o for o in settle_layouts(made, "cuda").graph.ops if o.name == "nn.attention")
        found[dtype] = strides_of(op.result)
    assert found == {"f32": (40960, 10240, 16, 1), "f16": (40960, 16, 64, 1)}
