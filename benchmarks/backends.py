"""What a workload is run through: eager, torch.compile's own backends, effcomp."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

__all__ = ["BACKENDS", "Unavailable", "compiled"]

Call = Callable[..., Any]


class Unavailable(Exception):
    """The backend is not installed here; the message says what is missing."""


def _inductor(**options: Any) -> Callable[[nn.Module], Call]:
    return lambda module: torch.compile(module, backend="inductor", dynamic=False, **options)


def _effcomp(**options: Any) -> Callable[[nn.Module], Call]:
    def build(module: nn.Module) -> Call:
        if find_spec("effcomp.entry") is None:
            raise Unavailable("this tree has no effcomp.entry yet")
        backend: Any = "effcomp"
        if backend not in torch.compiler.list_backends():
            # Run from a source tree without an installation, there is no entry point to find.
            from effcomp.entry import backend
        return torch.compile(module, backend=backend, dynamic=False, **options)

    return build


BACKENDS: dict[str, Callable[[nn.Module], Call]] = {
    "eager": lambda module: module,
    # What torch.compile costs before any backend is asked.
    "dynamo": lambda module: torch.compile(module, backend="eager", dynamic=False),
    "aot_eager": lambda module: torch.compile(module, backend="aot_eager", dynamic=False),
    "inductor": _inductor(),
    "inductor_cg": _inductor(mode="reduce-overhead"),
    "inductor_max": _inductor(mode="max-autotune"),
    "effcomp": _effcomp(),
    "effcomp_cg": _effcomp(mode="reduce-overhead"),
}


def compiled(name: str, module: nn.Module) -> Call:
    """Wrap a module for a backend; nothing is compiled before the first call."""
    if name not in BACKENDS:
        raise ValueError(f"no backend named {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name](module)
