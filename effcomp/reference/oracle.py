"""What a graph means: `evaluate` runs it op by op and checks every declared type on the way."""

from collections.abc import Sequence
from typing import Any

import sympy
import torch

from effcomp.dtypes import DTYPES
from effcomp.errors import PlanError, VerifyError
from effcomp.ir import Graph, SizeType, TensorType, Type, print_dim
from effcomp.ir.dims import Dim
from effcomp.plan.expressions import evaluate as evaluate_expr
from effcomp.reference.emitter import Emitter
from effcomp.reference.executor import run_call

Sizes = dict[str, int]


def evaluate(graph: Graph, args: Sequence[torch.Tensor | int]) -> list[torch.Tensor | int | None]:
    """The outputs of a graph. `state.*` ops write into the arguments.

    Size names are bound by the arguments' shapes and sizes. Raises VerifyError where an argument or
    a result is not what its type says.
    """
    if len(args) != len(graph.params):
        raise VerifyError(f"@{graph.name} takes {len(graph.params)} arguments, got {len(args)}")
    lowered = Emitter(graph, snapshots=True)
    outputs = [v.type if isinstance(v.type, SizeType) else lowered.tensor(v) for v in graph.outputs]
    sizes = bind_sizes(graph, args)
    values: dict[int, Any] = dict(enumerate(args))
    devices = [a.device for a in args if isinstance(a, torch.Tensor)]
    device = max(devices, key=lambda d: d.type != "cpu", default=torch.device("cpu"))
    with torch.no_grad():
        for call in lowered.calls:
            for local, found in run_call(call, values, sizes, device).items():
                values[local] = found
                if (expected := lowered.types.get(local)) is not None:
                    _bind(expected, found, sizes)
                    check_type(expected, found, sizes, f"a result of {call.target}")
    return [
        evaluate_expr(_expr(o.expr), sizes) if isinstance(o, SizeType) else values[o.id]
        for o in outputs
    ]


def bind_sizes(graph: Graph, args: Sequence[torch.Tensor | int]) -> Sizes:
    """The size names' values. Raises VerifyError where an argument does not fit its param."""
    sizes: Sizes = {}
    for param, arg in zip(graph.params, args, strict=True):
        _bind(param.type, arg, sizes)
    for i, (param, arg) in enumerate(zip(graph.params, args, strict=True)):
        check_type(param.type, arg, sizes, f"argument {i} of @{graph.name}")
    return sizes


def _bind(declared: Type, found: Any, sizes: Sizes) -> None:
    """Learn the sizes that stand alone as a dim (or as a size param)."""
    if isinstance(declared, SizeType):
        pairs = [(declared.expr, found)]
    else:
        pairs = list(zip(declared.shape, getattr(found, "shape", ()), strict=False))
    for expr, value in pairs:
        if isinstance(expr, sympy.Symbol):
            sizes.setdefault(expr.name, int(value))


def check_type(declared: Type, found: Any, sizes: Sizes, what: str) -> None:
    """Raise VerifyError unless `found` is what the type says."""
    if isinstance(declared, SizeType):
        fits = not isinstance(found, torch.Tensor) and _value(declared.expr, sizes) == int(found)
    else:
        fits = isinstance(found, torch.Tensor) and _fits(declared, found, sizes)
    if not fits:
        shown = (
            f"{found.dtype}{list(found.shape)}" if isinstance(found, torch.Tensor) else repr(found)
        )
        raise VerifyError(f"{what} is {shown}, declared {declared} with sizes {sizes}")


def _fits(declared: TensorType, found: torch.Tensor, sizes: Sizes) -> bool:
    shape = tuple(_value(d, sizes) for d in declared.shape)
    return found.dtype == DTYPES[declared.dtype] and tuple(found.shape) == shape


def _value(expr: Dim, sizes: Sizes) -> int:
    try:
        return evaluate_expr(_expr(expr), sizes)
    except PlanError as error:
        raise VerifyError(str(error)) from None


def _expr(expr: Dim) -> int | str:
    return expr if isinstance(expr, int) else print_dim(expr)
