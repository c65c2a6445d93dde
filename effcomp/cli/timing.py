"""Timing calls side by side: in turns, so that clocks, heat and neighbours weigh on all alike."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from effcomp.version import __version__

__all__ = ["Lane", "machine", "run_lanes"]

_ROUNDS = 5


@dataclass(slots=True)
class Lane:
    """One way to run a model, and what it took. Times are in milliseconds.

    `prepare` returns the function to call; what it and the first call take is `first_seconds`.
    The failure of a `required` lane is raised, that of another is kept.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    required: bool = False
    call: Callable[[], Any] | None = None
    output: Any = None
    failure: str = ""
    first_seconds: float = 0.0
    peak_bytes: int | None = None
    samples: list[float] = field(default_factory=list[float])

    def quantile(self, share: float) -> float:
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def data(self) -> dict[str, Any]:
        if self.failure:
            return {"name": self.name, "failure": self.failure}
        return {
            "name": self.name,
            "median_ms": statistics.median(self.samples),
            "p10_ms": self.quantile(0.1),
            "p90_ms": self.quantile(0.9),
            "calls": len(self.samples),
            "first_call_s": self.first_seconds,
            "peak_bytes": self.peak_bytes,
        }


def run_lanes(lanes: Mapping[str, Lane], device: torch.device, seconds: float) -> None:
    """Start every lane, then time them in turns for about `seconds` each.

    Lanes that cannot be prepared or called keep the reason as `failure`.
    """
    for lane in lanes.values():
        _start(lane, device)
    for number in range(_ROUNDS):
        running = [lane for lane in lanes.values() if lane.call is not None]
        turn = number % max(1, len(running))
        for lane in (*running[turn:], *running[:turn]):
            lane.samples += _block(lane, device, seconds / _ROUNDS)


def machine(device: torch.device) -> dict[str, Any]:
    """What times are of."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "effcomp": __version__,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _start(lane: Lane, device: torch.device) -> None:
    """Compile and call; keep the output, and on a GPU what a steady call allocates at most."""
    start = time.perf_counter()
    try:
        call = lane.prepare()
        # A copy: a replayed CUDA graph may write its next results over these.
        lane.output = tree_map_only(torch.Tensor, torch.clone, call())
        _wait(device)
        lane.first_seconds = time.perf_counter() - start
        call()
    except Exception as error:
        if lane.required:
            raise
        lane.failure = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return
    lane.call = call
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _wait(device)
        lane.peak_bytes = torch.cuda.max_memory_allocated(device) - before


def _block(lane: Lane, device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of calls made one after the other for about so many seconds; at least two."""
    assert lane.call is not None, "only lanes that run are timed"
    lane.call()  # meets cold caches after the lane before it
    _wait(device)
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        lane.call()
        _wait(device)
        samples.append((time.perf_counter() - start) * 1e3)
    return samples
