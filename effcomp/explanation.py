"""`effcomp.explain`: what the compiler did to a model, as a report one can read."""

import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from effcomp.api import Compilation, backend, recording
from effcomp.errors import FallbackWarning
from effcomp.ir import Graph
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import CallStep, Launch, RunRegion

__all__ = ["Explanation", "GraphReport", "GroupReport", "explain", "report_of"]


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One step of a plan: what it computes, bytes moved and FLOPs for the sizes it ran with."""

    kind: str  # "kernel", "region" or "library"
    label: str
    ops: tuple[str, ...]
    bytes: int
    flops: int
    loc: str


@dataclass(frozen=True, slots=True)
class GraphReport:
    """One captured graph. `unmodelled` counts `aten.call`s by target and reason."""

    name: str
    role: str
    target: str
    modelled: int
    unmodelled: Mapping[tuple[str, str], int]
    groups: tuple[GroupReport, ...]
    kernels: int
    refusals: tuple[str, ...]
    matches: Mapping[str, int]
    stages: tuple[tuple[str, int, float], ...]  # pass, ops after it, seconds
    notes: tuple[str, ...]
    peak_bytes: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything `explain` found; `str()` of it is the report.

    `fallbacks` are warnings of what ran otherwise than asked for: a whole graph eagerly, say.
    """

    graphs: tuple[GraphReport, ...]
    breaks: tuple[str, ...]
    fallbacks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{len(self.graphs)} graph(s), {len(self.breaks)} graph break(s), "
            f"{len(self.fallbacks)} fallback(s)"
        ]
        lines += [f"  break: {reason}" for reason in self.breaks]
        lines += [f"  fallback: {reason}" for reason in self.fallbacks]
        for graph in self.graphs:
            lines += ["", *_show_graph(graph)]
        return "\n".join(lines)


def explain(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Compile `model` anew for these arguments, run it, and report what was done.

    The model runs twice, once to find its graph breaks: state that it keeps advances twice.
    Nothing of the compile cache is read, so that every stage is there to be reported. Gradients are
    followed if they are enabled: the backward graph is then reported once it was compiled.
    """
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
    with recording() as found:
        with torch._dynamo.utils.preserve_rng_state():  # pyright: ignore[reportPrivateImportUsage]
            breaks = _breaks(model, args, kwargs)
        torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
        found.clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", FallbackWarning)
            torch.compile(model, backend=backend)(*args, **kwargs)
    fallbacks: list[str] = []
    for warning in seen:
        if issubclass(warning.category, FallbackWarning):
            fallbacks.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Explanation(tuple(map(report_of, found)), breaks, tuple(fallbacks))


def _breaks(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, ...]:
    output = torch._dynamo.explain(model)(*args, **kwargs)  # pyright: ignore[reportPrivateImportUsage]
    return tuple(
        f"{reason.reason.splitlines()[0]} at {_place(reason.user_stack)}"
        for reason in output.break_reasons
    )


def _place(stack: Any) -> str:
    return (
        f"{stack[-1].filename.rsplit('/', 1)[-1]}:{stack[-1].lineno}"
        if stack
        else "an unknown line"
    )


def report_of(record: Compilation) -> GraphReport:
    """What was done to one graph, for the sizes it ran with last."""
    run, plan = record.run, record.plan
    assert run is not None, "a recorded compilation bypasses the cache"
    captured = record.captured.graph
    sizes = record.executable.last_sizes if record.executable else {}
    unmodelled = _unmodelled(captured)
    return GraphReport(
        name=captured.name,
        role=record.role.value,
        target=plan.target,
        modelled=sum(1 for _ in captured.ops) - sum(unmodelled.values()),
        unmodelled=unmodelled,
        groups=_groups(record, sizes),
        kernels=len(plan.kernels),
        refusals=tuple(str(refusal) for stage in run.stages for refusal in stage.refusals),
        matches=run.counts,
        stages=tuple((stage.spec, len(stage.graph.ops), stage.seconds) for stage in run.stages),
        notes=(*plan.notes, *(record.executable.notes if record.executable else ())),
        peak_bytes=record.executable.peak_bytes if record.executable else 0,
        seconds=dict(record.seconds),
    )


def _unmodelled(graph: Graph) -> dict[tuple[str, str], int]:
    calls = (op for op in graph.ops if op.name == "aten.call")
    return dict(Counter((str(op.attrs["target"]), str(op.attrs.get("why", ""))) for op in calls))


def _groups(record: Compilation, sizes: Mapping[str, int]) -> tuple[GroupReport, ...]:
    kinds = {Launch: "kernel", RunRegion: "region", CallStep: "library"}
    return tuple(
        GroupReport(
            kind=kinds[type(step)],
            label=cost.label,
            ops=cost.ops,
            bytes=evaluate(cost.bytes, sizes),
            flops=evaluate(cost.flops, sizes),
            loc=cost.loc,
        )
        for step, cost in zip(record.plan.steps, record.plan.costs, strict=True)
    )


def _show_graph(graph: GraphReport) -> list[str]:
    total = graph.modelled + sum(graph.unmodelled.values())
    stages = {stage: value for stage, value in graph.seconds.items() if stage != "plan"}
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in stages.items())
    lines = [
        f"graph {graph.name} ({graph.role}, {graph.target}): {graph.modelled} of {total} ops "
        "modelled, "
        f"{len(graph.groups)} steps, {graph.kernels} distinct kernels, "
        f"memory peak {_size(graph.peak_bytes)}",
        f"  compiled in: {seconds}",
    ]
    lines += [f"  aten.call {target} x{n}: {why}" for (target, why), n in graph.unmodelled.items()]
    lines += [f"  note: {note}" for note in graph.notes]
    lines.append("  passes:")
    lines += [
        f"    {spec:40} {ops:5} ops {seconds * 1e3:8.1f} ms" for spec, ops, seconds in graph.stages
    ]
    if graph.matches:
        lines.append("  matches: " + ", ".join(f"{rule} {n}" for rule, n in graph.matches.items()))
    if graph.refusals:
        lines.append("  refusals:")
        lines += textwrap.indent("\n".join(graph.refusals), "    ").splitlines()
    lines.append("  steps:")
    lines += [
        f"    {group.kind:8} {group.label[:48]:48} {_size(group.bytes):>10}"
        f" {_work(group.flops):>13}  {group.loc}"
        for group in graph.groups
    ]
    return lines


def _size(count: int) -> str:
    """Bytes in the largest binary unit that leaves a whole number before the point."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"


def _work(count: int) -> str:
    """FLOPs in the largest decimal unit that leaves a whole number before the point."""
    value, unit = float(count), "FLOP"
    for larger in ("kFLOP", "MFLOP", "GFLOP", "TFLOP"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "FLOP" else f"{count} FLOP"
