"""How long the steps of a plan take: calls inside `profiling` are timed step by step."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch

__all__ = ["Stopwatch", "Times", "active_times", "profiling"]

Times = dict[Any, tuple[float, ...]]
"""By executable, the seconds that each step of its plan took in its last call."""

_TIMES: ContextVar[Times | None] = ContextVar("effcomp_times", default=None)


@contextlib.contextmanager
def profiling() -> Iterator[Times]:
    """Time every call of an executable inside the block; CUDA graphs are not replayed in it."""
    times: Times = {}
    token = _TIMES.set(times)
    try:
        yield times
    finally:
        _TIMES.reset(token)


def active_times() -> Times | None:
    """Where times go; None where nobody asks for them."""
    return _TIMES.get()


class Stopwatch:
    """Reads the time between marks: by the host's clock on a CPU, on a GPU by its own events."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note the time; on a GPU, the time at which it gets here."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> tuple[float, ...]:
        """Seconds from the first mark to the second, from the third to the fourth, and so on."""
        pairs: Sequence[tuple[Any, Any]] = list(
            zip(self._marks[::2], self._marks[1::2], strict=True)
        )
        if not self._cuda:
            return tuple(end - start for start, end in pairs)
        torch.cuda.synchronize()
        return tuple(start.elapsed_time(end) / 1e3 for start, end in pairs)
