"""A report: everything the compiler did to a model, as data.

Bytes, FLOPs and seconds are of one call with the sizes in `GraphReport.sizes`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from effcomp.errors import ReportError

REPORT_VERSION = 1
_STRICT = ConfigDict(extra="forbid")

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


# The program: an op graph that needs no compiler to be read.


@dataclass(frozen=True, config=_STRICT)
class ValueReport:
    """One value of a program: its unique name there and its type, such as "bf16[2, 512, 64]"."""

    name: str
    type: str
    weight: bool = False


@dataclass(frozen=True, config=_STRICT)
class OpReport:
    """One op. `reads` are names of values; `body` is what a group computes of them."""

    name: str
    reads: tuple[str, ...]
    results: tuple[ValueReport, ...]
    attrs: Mapping[str, str]
    loc: str = ""
    scope: str = ""
    body: "ProgramReport | None" = None


@dataclass(frozen=True, config=_STRICT)
class ProgramReport:
    """A straight line of ops: params in, names of outputs out."""

    params: tuple[ValueReport, ...]
    ops: tuple[OpReport, ...]
    outputs: tuple[str, ...]


# What the passes did.


@dataclass(frozen=True, config=_STRICT)
class StageReport:
    """The program after one pass, as text: empty where the pass changed nothing.

    `ops` counts its ops, `counts` how often each rule applied.
    """

    spec: str
    ops: Count
    changed: bool
    seconds: Seconds
    counts: Mapping[str, Count]
    text: str


@dataclass(frozen=True, config=_STRICT)
class RefusalReport:
    """Why a rule left something alone, at `count` places; `locs` are the first of them."""

    stage: str
    rule: str
    reason: str
    count: Count
    locs: tuple[str, ...]
    text: str


@dataclass(frozen=True, config=_STRICT)
class MatchReport:
    """A rule that rewrote something, at `count` places in one stage; `locs` are the first."""

    stage: str
    rule: str
    count: Count
    locs: tuple[str, ...]


@dataclass(frozen=True, config=_STRICT)
class MissReport:
    """How near a traced rule came at one place: ops of its pattern matched, and what differs."""

    stage: str
    rule: str
    matched: int
    total: int
    reason: str
    loc: str
    text: str


@dataclass(frozen=True, config=_STRICT)
class Unmodelled:
    """An operator that runs as the call it was, and why the IR does not know it."""

    target: str
    why: str
    count: Count


# What runs.


@dataclass(frozen=True, config=_STRICT)
class GroupReport:
    """One step of the plan: what it computes, moves and costs.

    `op` is a position in the program that was lowered (-1: none); `runs` the kernel's digest or
    the torch operator. `estimate` is the roofline's time, `measured` a real one, in seconds.
    """

    kind: Literal["kernel", "region", "library"]
    label: str
    ops: tuple[str, ...]
    bytes: Count
    flops: Count
    loc: str
    scope: str
    op: int
    runs: str
    grid: tuple[Count, ...]
    matrix: bool  # whether a product that runs at the matrix rate is in it
    estimate: Seconds
    measured: Seconds | None = None


@dataclass(frozen=True, config=_STRICT)
class KernelReport:
    """One distinct kernel; what it takes of a processor, where it was compiled.

    Registers and stack are a thread's (a stack holds what did not fit into registers), shared
    memory is a block's.
    """

    digest: str
    kind: Literal["triton", "region"]
    function: str
    source: str
    options: Mapping[str, str]
    launches: Count
    registers: Count | None = None
    stack_bytes: Count | None = None
    shared_bytes: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Holding:
    """Memory that a call holds from step `first` to step `last`; `offset` where in the arena."""

    name: str
    type: str
    place: Literal["arena", "output", "call"]
    bytes: Count
    first: Count
    last: Count
    offset: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class MemoryReport:
    """What a call allocates beside its arguments, in bytes; weights and inputs for comparison."""

    peak_bytes: Count
    arena_bytes: Count
    weight_bytes: Count
    input_bytes: Count
    holdings: tuple[Holding, ...]


@dataclass(frozen=True, config=_STRICT)
class Roofs:
    """The rates of a target: bytes/s, FLOP/s, seconds a launch."""

    bandwidth: Rate
    matrix_rate: Rate
    vector_rate: Rate
    launch_seconds: Rate


@dataclass(frozen=True, config=_STRICT)
class GraphReport:
    """One captured graph compiled for one target.

    `stages` and `program` are empty where the plan came from a cache: nothing was run then.
    """

    name: str
    role: str
    target: str
    roofs: Roofs
    sizes: Mapping[str, Count]
    assumed: tuple[str, ...]  # names of sizes no call has told
    modelled: Count
    unmodelled: tuple[Unmodelled, ...]
    stages: tuple[StageReport, ...]
    program: ProgramReport
    groups: tuple[GroupReport, ...]
    kernels: tuple[KernelReport, ...]
    refusals: tuple[RefusalReport, ...]
    matches: Mapping[str, Count]
    notes: tuple[str, ...]
    memory: MemoryReport
    seconds: Mapping[str, Seconds]
    places: tuple[MatchReport, ...] = ()
    misses: tuple[MissReport, ...] = ()

    @property
    def peak_bytes(self) -> int:
        return self.memory.peak_bytes

    @property
    def total(self) -> int:
        """Ops captured, modelled or not."""
        return self.modelled + sum(one.count for one in self.unmodelled)

    def with_times(self, seconds: Sequence[float]) -> "GraphReport":
        """The report with a measured time for each step."""
        timed = zip(self.groups, seconds, strict=True)
        return replace(self, groups=tuple(replace(group, measured=s) for group, s in timed))


@dataclass(frozen=True, config=_STRICT)
class SourceLines:
    """Lines of a model's source file by number, as far as the report names them."""

    file: str
    lines: Mapping[int, str]


@dataclass(frozen=True, config=_STRICT)
class Report:
    """Everything the compiler did to a model; `str()` of it is the text report.

    `fallbacks` are warnings of what ran otherwise than asked for: a whole graph eagerly, say.
    """

    graphs: tuple[GraphReport, ...]
    breaks: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    title: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: tuple[SourceLines, ...] = ()
    version: int = REPORT_VERSION

    def __str__(self) -> str:
        from effcomp.report.text import report_text

        return report_text(self)

    def with_times(self, target: str, seconds: Sequence[float]) -> "Report":
        """The report with a measured time for each step of the graph for `target`."""
        graphs = (g.with_times(seconds) if g.target == target else g for g in self.graphs)
        return replace(self, graphs=tuple(graphs))

    def to_json(self) -> str:
        """The report as JSON; equal reports give equal text."""
        return _adapter().dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> "Report":
        """Read what `to_json` writes. Raises ReportError saying what is wrong, and where."""
        from effcomp.report.checking import check_report

        try:
            report = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the text"
            raise ReportError(f"not a report: {where}: {first['msg']}") from None
        if report.version != REPORT_VERSION:
            raise ReportError(
                f"the report has version {report.version}; this effcomp reads {REPORT_VERSION}"
            )
        check_report(report)
        return report

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one page that needs nothing else. Raises ReportError."""
        from effcomp.report.html import render

        return _write(Path(path), render(self))

    def to_model_explorer(self, path: str | Path) -> Path:
        """Write the programs as Model Explorer's JSON graphs. Raises ReportError."""
        import json

        from effcomp.report.model_explorer import export

        return _write(Path(path), json.dumps(export(self), indent=1))


def _write(path: Path, text: str) -> Path:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write the report to {path}: {error.strerror}") from error
    return path


@functools.cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)
