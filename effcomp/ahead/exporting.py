"""From a module and example arguments to an exported program."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from effcomp.errors import CaptureError, ConfigError

__all__ = ["export"]

# What torch.export raises for a model that it cannot trace.
_REFUSALS = (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError, KeyError)
_REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})
_MOST_DEPTH = 6


def export(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
) -> ExportedProgram:
    """The program that a module runs for these arguments. Raises CaptureError, ConfigError."""
    if isinstance(model, ExportedProgram):
        if args or kwargs or dynamic_shapes is not None:
            raise ConfigError("an exported program has its arguments already: pass it alone")
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"effcomp.compile takes a module or an exported program, not a {type(model).__name__}"
        )
    try:
        with torch.no_grad(), _kept(model):
            return torch.export.export(
                model, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False
            )
    except _REFUSALS as error:
        raise CaptureError(
            f"torch.export cannot trace {type(model).__name__}: {error}\nMake the model exportable "
            'with these arguments, or use torch.compile(model, backend="effcomp")'
        ) from error


@contextlib.contextmanager
def _kept(model: nn.Module) -> Generator[None]:
    """Undo what tracing writes to tensors that a module holds without having registered them.

    torch.export traces registered tensors as fakes; others, such as those of a transformers cache
    in an attribute, it writes as the model does.
    """
    saved = [(tensor, tensor._version, tensor.clone()) for tensor in _unregistered(model)]
    try:
        yield
    finally:
        for tensor, version, value in saved:
            if tensor._version != version:
                tensor.copy_(value)


def _unregistered(model: nn.Module) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    seen: set[int] = set()

    def visit(value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            if not value.is_inference() and value.device.type != "meta":
                found[id(value)] = value
            return
        if depth == 0 or id(value) in seen or isinstance(value, (nn.Module, type)):
            return
        seen.add(id(value))
        if isinstance(value, Mapping):
            inside: Any = value.values()
        elif isinstance(value, (list, tuple, set)):
            inside = value
        else:
            inside = vars(value).values() if hasattr(value, "__dict__") else ()
        for item in list(inside):
            visit(item, depth - 1)

    for module in model.modules():
        for name, value in vars(module).items():
            if name not in _REGISTERED:
                visit(value, _MOST_DEPTH)
    return list(found.values())
