"""The only package that launches work: plans become callables here.

Names load on first use, so that compile workers need not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effcomp.runtime.executable import Executable
    from effcomp.runtime.kept_cubins import KeptCubins
    from effcomp.runtime.loading import load, release
    from effcomp.runtime.preparing import prepare_to_compile

__all__ = ["Executable", "KeptCubins", "load", "prepare_to_compile", "release"]

_HOMES = {
    "Executable": "effcomp.runtime.executable",
    "KeptCubins": "effcomp.runtime.kept_cubins",
    "load": "effcomp.runtime.loading",
    "prepare_to_compile": "effcomp.runtime.preparing",
    "release": "effcomp.runtime.loading",
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
