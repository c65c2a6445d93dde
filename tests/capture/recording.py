"""A torch.compile backend for tests: it keeps what was captured, checks it and evaluates it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from effcomp.capture import Captured, Role, compile_dynamo
from effcomp.errors import FallbackWarning
from effcomp.ir import Graph, Level, Op, parse_graph, print_graph, verify
from effcomp.reference import evaluate

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
        return lambda args: evaluate(captured.graph, [*args, *captured.constants])

    @property
    def graphs(self) -> list[Graph]:
        return [captured.graph for captured, _ in self.captured]

    def graph(self, role: Role = Role.INFERENCE) -> Graph:
        """The only graph of a role."""
        (found,) = [c.graph for c, r in self.captured if r is role]
        return found


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
