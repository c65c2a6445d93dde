"""effcomp: an optimizing compiler for PyTorch models.

`torch.compile(model, backend="effcomp")` needs no import of this package: torch finds the
backend by its entry point. The names here load what they stand for on first use, so that
`import effcomp` costs nothing and `effcomp.ir` works where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from effcomp.version import __version__ as __version__

if TYPE_CHECKING:
    from effcomp.ahead import compile
    from effcomp.api import backend, reset
    from effcomp.config import Config
    from effcomp.explanation import explain
    from effcomp.runtime.model import CompiledModel
    from effcomp.runtime.opening import load

__all__ = ["CompiledModel", "Config", "backend", "compile", "explain", "load", "reset"]

_HOMES = {
    "CompiledModel": "effcomp.runtime.model",
    "Config": "effcomp.config",
    "backend": "effcomp.api",
    "compile": "effcomp.ahead",
    "explain": "effcomp.explanation",
    "load": "effcomp.runtime.opening",
    "reset": "effcomp.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
