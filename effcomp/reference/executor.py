"""Runs ATen calls one by one with torch: no planning, no fusion, nothing to get wrong."""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from effcomp.dtypes import DTYPES
from effcomp.errors import LoweringError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import Arg, AtenCall, BufferArg, ConstArg, ListArg, SizeArg, TagArg


@functools.cache
def operator_named(target: str) -> torch._ops.OpOverload:
    """The operator "namespace.name.overload". Raises LoweringError where torch has none."""
    namespace, _, rest = target.partition(".")
    name, _, overload = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), name), overload or "default")
    except (AttributeError, RuntimeError):
        raise LoweringError(f"torch {torch.__version__} has no operator {target!r}") from None


def tag_value(tag: str, value: str, device: torch.device) -> Any:
    """The torch constant that a tag names; the device "plan" is `device`."""
    name = value.removeprefix("torch.")
    match tag:
        case "device":
            return device if value == "plan" else torch.device(value)
        case "complex":
            return complex(value)
        case "dtype" if name in DTYPES:
            return DTYPES[name]
        case "dtype" | "layout" | "memory_format" if hasattr(torch, name):
            return getattr(torch, name)
        case _:
            raise LoweringError(f"torch has no {tag} {value!r}")


def argument(
    arg: Arg, values: Mapping[int, Any], sizes: Mapping[str, int], device: torch.device
) -> Any:
    """What stands for `arg` in a Python call."""
    match arg:
        case BufferArg(id=local):
            return values[local]
        case SizeArg(expr=expr):
            return evaluate(expr, sizes)
        case ConstArg(value=value):
            return value
        case TagArg(tag=tag, value=value):
            return tag_value(tag, value, device)
        case ListArg(items=items):
            return [argument(item, values, sizes, device) for item in items]


def run_call(
    call: AtenCall, values: Mapping[int, Any], sizes: Mapping[str, int], device: torch.device
) -> dict[int, Any]:
    """Run one call; returns its results by local id."""
    args = [argument(a, values, sizes, device) for a in call.args]
    kwargs = {name: argument(a, values, sizes, device) for name, a in call.kwargs}
    found = operator_named(call.target)(*args, **kwargs)
    results = found if isinstance(found, (tuple, list)) else (found,)
    named = zip(call.results, results, strict=True)
    return {local: result for local, result in named if local is not None}
