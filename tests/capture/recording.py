"""A torch.compile backend for tests: it keeps what was captured, checks it and evaluates it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from effcomp.capture import Captured, Role, compile_dynamo
from effcomp.dtypes import DTYPES
from effcomp.errors import FallbackWarning
from effcomp.ir import (
    Dim,
    Graph,
    Level,
    Op,
    Result,
    ResultView,
    parse_graph,
    print_dim,
    print_graph,
    verify,
)
from effcomp.plan.expressions import evaluate as evaluate_expr
from effcomp.reference import evaluate
from effcomp.reference.oracle import bind_sizes

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-10}


@dataclass
class Recorder:
    """Collects the graphs of everything compiled with its `backend`."""

    captured: list[tuple[Captured, Role]] = field(default_factory=list)

    def backend(self, gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return compile_dynamo(gm, inputs, self.compile_graph)

    def compile_graph(self, captured: Captured, role: Role) -> Callable[[list[Any]], list[Any]]:
        check_graph(captured.graph)
        self.captured.append((captured, role))
        return lambda args: results_of(captured, args)

    @property
    def graphs(self) -> list[Graph]:
        return [captured.graph for captured, _ in self.captured]

    def graph(self, role: Role = Role.INFERENCE) -> Graph:
        """The only graph of a role."""
        (found,) = [c.graph for c, r in self.captured if r is role]
        return found


def results_of(captured: Captured, args: Sequence[Any]) -> list[Any]:
    """What the compiled function returns, by the oracle: outputs, and views as they are stated."""
    given = [*args, *captured.constants]
    sizes = bind_sizes(captured.graph, given)
    outputs = evaluate(captured.graph, given)
    views = [r for r in captured.results if isinstance(r, ResultView)]
    for position in {view.of for view in views if view.root == "output"}:
        outputs[position] = _laid_out(captured.graph, position, outputs[position], sizes)
    roots = {"output": outputs, "param": given}
    return [_result(result, roots, sizes) for result in captured.results]


def _result(result: Result, roots: Mapping[str, Sequence[Any]], sizes: Mapping[str, int]) -> Any:
    match result:
        case None:
            return None
        case int():
            return roots["output"][result]
        case ResultView(root=root, of=of, type=kind):
            base, dtype = roots[root][of], DTYPES[kind.dtype]
            shape, strides = _ints(kind.shape, sizes), _ints(result.strides, sizes)
            (offset,) = _ints([result.offset], sizes)
            if base.dtype is dtype:
                return base.detach().as_strided(shape, strides, base.storage_offset() + offset)
            typed = torch.empty(0, dtype=dtype)
            return typed.set_(base.untyped_storage(), offset, shape, strides)


def _laid_out(graph: Graph, position: int, output: Tensor, sizes: Mapping[str, int]) -> Tensor:
    layout = graph.layout_of_output(position)
    strides = output.contiguous().stride() if layout is None else _ints(layout, sizes)
    return torch.empty_strided(output.shape, strides, dtype=output.dtype).copy_(output)


def _ints(dims: Sequence[Dim], sizes: Mapping[str, int]) -> list[int]:
    return [d if isinstance(d, int) else evaluate_expr(print_dim(d), sizes) for d in dims]


def check_graph(graph: Graph) -> None:
    """Well-formed, legal at its level, and the same after a trip through text."""
    verify(graph, Level.TENSOR)
    text = print_graph(graph)
    assert print_graph(parse_graph(text)) == text


def calls(graph: Graph, name: str) -> list[Op]:
    return [op for op in graph.walk() if op.name == name]


def unmodelled(graph: Graph) -> list[str]:
    return [str(op.attrs["target"]) for op in calls(graph, "aten.call")]


def check(
    function: Callable[..., Any], *args: Any, dynamic: bool | None = False, grad: bool = False
) -> Recorder:
    """Compile, run, and compare with eager: values, dtypes and strides. A fallback is an error."""
    recorder = Recorder()
    compiled = torch.compile(function, backend=recorder.backend, dynamic=dynamic, fullgraph=True)
    with warnings.catch_warnings(), torch.set_grad_enabled(grad):
        warnings.simplefilter("error", FallbackWarning)
        expected = function(*copies(args))
        same(compiled(*copies(args)), expected)
    return recorder


def copies(args: Any) -> Any:
    """Every tensor anew, with the same strides: a function may write into its arguments."""

    def copy(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        fresh = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
        return fresh.copy_(x.detach()).requires_grad_(x.requires_grad)

    return pytree.tree_map(copy, args)


def same(found: Any, expected: Any) -> None:
    """Compare two results, however nested; the message names the place."""
    pairs = zip(
        pytree.tree_leaves_with_path(found), pytree.tree_leaves_with_path(expected), strict=True
    )
    for (path, one), (_, other) in pairs:
        place = pytree.keystr(path)
        if not isinstance(other, Tensor):
            assert one == other, place
            continue
        assert one.dtype == other.dtype, f"{place}: {one.dtype}, not {other.dtype}"
        assert one.stride() == other.stride(), f"{place}: {one.stride()}, not {other.stride()}"
        tolerance = TOLERANCE.get(other.dtype, 0.0)
        torch.testing.assert_close(
            one, other, rtol=tolerance, atol=tolerance, equal_nan=True,
            msg=lambda text, place=place: f"{place}: {text}",
        )  # fmt: skip
