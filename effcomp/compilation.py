"""One graph's way through the compiler, kept for whoever asks what was done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from effcomp.plan.schema import Plan
from effcomp.runtime import Executable
from effcomp.target import Target

if TYPE_CHECKING:  # what a plan from the cache does without
    from effcomp.capture import Captured, Role
    from effcomp.rewrite import Run

__all__ = ["Compilation", "collected", "recording"]


@dataclass(slots=True)
class Compilation:
    """What compiling one graph did: reports are made of these.

    `run` is None where the plan came from the cache, where it has `plan_key`, empty where the cache
    was not used; `seconds` are by stage name.
    """

    name: str
    role: Role
    target: Target
    captured: Captured
    plan: Plan
    run: Run | None = None
    executable: Executable | None = None
    plan_key: str = ""
    seconds: dict[str, float] = field(default_factory=dict[str, float])


_RECORD: ContextVar[list[Compilation] | None] = ContextVar("effcomp_record", default=None)


@contextlib.contextmanager
def recording() -> Iterator[list[Compilation]]:
    """Collect every Compilation made inside the block."""
    found: list[Compilation] = []
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def collected() -> list[Compilation] | None:
    """What a surrounding `recording` block collects into, None outside of one."""
    return _RECORD.get()
