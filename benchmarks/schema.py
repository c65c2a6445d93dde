"""The result file of one run: what was measured, where, and with which versions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["FirstCall", "Kernel", "Result", "Row", "Times", "read", "write"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kernel(_Record):
    """A kernel's part of one call."""

    name: str
    launches: float
    milliseconds: float


class Times(_Record):
    """Steady calls, in milliseconds, taken in turns with the other backends of the run."""

    median: float
    minimum: float
    maximum: float
    calls: int


class FirstCall(_Record):
    """Seconds from `torch.compile` to the first output, each in a process of its own."""

    cold: float
    warm: float


class Row(_Record):
    """One workload through one backend.

    `error` is the norm of the difference from the float32 result over the norm of that result.
    `peak_gib` counts weights, inputs and what steady calls allocate; `held_gib` what the allocator
    keeps reserved for this backend afterwards (CUDA graphs live there).
    """

    workload: str
    backend: str
    status: Literal["ok", "unavailable", "failed", "skipped"]
    why: str = ""
    times: Times | None = None
    error: float | None = None
    peak_gib: float | None = None
    held_gib: float | None = None
    first_call: FirstCall | None = None
    kernels: tuple[Kernel, ...] = ()


class Result(_Record):
    """One run of `benchmarks.measure`."""

    schema_version: Literal[1] = 1
    date: str
    device: str
    kind: Literal["cuda", "cpu"]
    tiny: bool
    versions: dict[str, str]
    rows: tuple[Row, ...]


def write(result: Result, path: Path) -> None:
    """Write a run as JSON, without the fields that were not measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def read(path: Path) -> Result:
    """Read a run; a field that is missing or not known is an error that names it."""
    return Result.model_validate_json(path.read_text())
