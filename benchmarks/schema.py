"""The result file of one run: what was measured, where, and with which versions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "ArtifactResult",
    "FirstCall",
    "Kernel",
    "LoraSwap",
    "Package",
    "Result",
    "Row",
    "Times",
    "WeightLoading",
    "read",
    "write",
]


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
    """Seconds from `torch.compile` to the first output, each in a process of its own.

    `warm` is the median of `warm_calls` processes.
    """

    cold: float
    warm: float
    warm_calls: int = 1


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


class Package(_Record):
    """A compiled model in one file, loaded and called in a new process.

    `load_seconds` is from the file to a callable with its weights on the device; `first_seconds` of
    the first call; `error` as in a row, against eager in the model's own dtype.
    """

    kind: Literal["effcomp", "aotinductor"]
    status: Literal["ok", "failed", "skipped"]
    why: str = ""
    build_seconds: float | None = None
    file_gib: float | None = None
    load_seconds: float | None = None
    first_seconds: float | None = None
    times: Times | None = None
    error: float | None = None
    compiled: tuple[str, ...] = ()  # remarks of the loader, on kernels it had to compile


class WeightLoading(_Record):
    """Bytes a second from a file in the page cache to the device; the best of so many rounds."""

    gib: float
    rounds: int
    effcomp: float
    safetensors: float


class LoraSwap(_Record):
    """Putting in an adapter: seconds until it is in, milliseconds of the call after it.

    `first` keeps the weights that it changes, `next` replaces one adapter by another. `difference`
    is the norm of the difference from a fresh compilation of the merged model over its norm.
    """

    weights: int
    rank: int
    first: float
    next: float
    removal: float
    call_after: float
    steady: float
    difference: float
    restored: bool


class ArtifactResult(_Record):
    """One run of `benchmarks.artifact`."""

    schema_version: Literal[1] = 1
    date: str
    device: str
    kind: Literal["cuda", "cpu"]
    tiny: bool
    versions: dict[str, str]
    workload: str
    built_with: dict[str, str]
    packages: tuple[Package, ...]
    loading: WeightLoading | None = None
    lora: LoraSwap | None = None


def write(result: Result | ArtifactResult, path: Path) -> None:
    """Write a run as JSON, without the fields that were not measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def read(path: Path) -> Result:
    """Read a run; a field that is missing or not known is an error that names it."""
    return Result.model_validate_json(path.read_text())


def read_artifact_result(path: Path) -> ArtifactResult:
    """Read a run of `benchmarks.artifact`, as `read` does."""
    return ArtifactResult.model_validate_json(path.read_text())
