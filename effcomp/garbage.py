"""Python's garbage collector while something is compiled.

Tracing and compiling make hundreds of thousands of objects, at which the collector walks over all
that a process holds: its model, torch's own modules. Half a million objects take 0.2 s, and nothing
is found; during a first call it happens several times. `gc.freeze` takes what there is out of the
collector's sight, at no cost; it goes on looking at what comes later.
"""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["frozen", "set_aside"]

_PYTHONS_OWN = 10_000
"""More than CPython freezes when it starts (some hundreds), less than importing torch makes."""


@dataclass(slots=True)
class _Freeze:
    ours: bool = False


_FREEZE = _Freeze()


def set_aside() -> None:
    """Take all objects that there are out of the collector's sight, until `frozen` ends.

    Where the program has frozen objects itself, nothing is done: thawing would thaw those too.
    """
    if _FREEZE.ours or gc.get_freeze_count() < _PYTHONS_OWN:
        gc.freeze()
        _FREEZE.ours = True


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """`set_aside` for a block; what was set aside before comes back with it."""
    set_aside()
    try:
        yield
    finally:
        if _FREEZE.ours:
            gc.unfreeze()
            _FREEZE.ours = False
