"""`effcomp compile --dry-run`: what a plan will do, from the plan alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from effcomp.cli.console import out, pairs, table
from effcomp.compilation import Compilation
from effcomp.report.units import show_bytes, show_flops, show_seconds
from effcomp.reporting import report_of

__all__ = ["prediction", "show_prediction"]

_SHOWN = 12


def prediction(record: Compilation, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Coverage, partition, memory and roofline time of one target's plan, for these sizes."""
    report = report_of(record, sizes)
    kinds = Counter(group.kind for group in report.groups)
    return {
        "target": report.target,
        "coverage": {
            "ops": report.total,
            "modelled": report.modelled,
            "calls": [
                {"operator": one.target, "count": one.count, "why": one.why}
                for one in report.unmodelled
            ],
        },
        "partition": {
            "steps": len(report.groups),
            "kernels": kinds["kernel"],
            "regions": kinds["region"],
            "library_calls": kinds["library"],
            "distinct_kernels": len(report.kernels),
        },
        "memory": {
            "weights": report.memory.weight_bytes,
            "inputs": report.memory.input_bytes,
            "arena": report.memory.arena_bytes,
            "peak": report.memory.peak_bytes,
        },
        "estimated_seconds": sum(group.estimate for group in report.groups),
        "bytes": sum(group.bytes for group in report.groups),
        "flops": sum(group.flops for group in report.groups),
        "sizes": dict(report.sizes),
        "assumed": list(report.assumed),
        "compile_seconds": dict(report.seconds),
        "notes": list(report.notes),
        "steps": [
            {
                "kind": group.kind,
                "label": group.label,
                "ops": list(group.ops),
                "bytes": group.bytes,
                "flops": group.flops,
                "estimated_seconds": group.estimate,
                "loc": group.loc,
            }
            for group in report.groups
        ],
    }


def show_prediction(name: str, found: Sequence[dict[str, Any]]) -> None:
    """The predictions as tables: nothing in them is measured."""
    for one in found:
        out().print(f"{name} for {one['target']}", style="bold")
        out().print(pairs(_facts(one)))
        for call in one["coverage"]["calls"]:
            out().print(f"  runs as a call: {call['operator']} x{call['count']}: {call['why']}")
        for note in one["notes"]:
            out().print(f"  note: {note}")
        out().print()
        out().print(_steps(one["steps"]))
        out().print()


def _facts(one: dict[str, Any]) -> dict[str, str]:
    coverage, partition, memory = one["coverage"], one["partition"], one["memory"]
    sizes = ", ".join(
        f"{name} = {size}{' (assumed)' if name in one['assumed'] else ''}"
        for name, size in one["sizes"].items()
    )
    facts = {
        "coverage": f"{coverage['modelled']} of {coverage['ops']} ops modelled",
        "partition": f"{partition['steps']} steps: {partition['kernels']} kernel launches, "
        f"{partition['regions']} regions, {partition['library_calls']} library calls; "
        f"{partition['distinct_kernels']} distinct kernels",
        "memory": f"{show_bytes(memory['peak'])} a call (arena {show_bytes(memory['arena'])}), "
        f"weights {show_bytes(memory['weights'])}, inputs {show_bytes(memory['inputs'])}",
        "work": f"{show_bytes(one['bytes'])} moved, {show_flops(one['flops'])}",
        "time": f"{show_seconds(one['estimated_seconds'])} a call, estimated by roofline",
    }
    return {**facts, "sizes": sizes} if sizes else facts


def _steps(steps: Sequence[dict[str, Any]]) -> Any:
    """The costliest steps; equal ones count together."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for step in steps:
        groups.setdefault((step["kind"], step["label"]), []).append(step)
    total = sum(step["estimated_seconds"] for step in steps) or 1.0
    seconds = {key: sum(s["estimated_seconds"] for s in group) for key, group in groups.items()}
    order = sorted(groups, key=lambda key: -seconds[key])
    rows = [
        (
            show_seconds(seconds[key]),
            f"{100 * seconds[key] / total:.0f} %",
            f"{len(groups[key])}",
            key[0],
            key[1],
            show_bytes(sum(s["bytes"] for s in groups[key])),
            show_flops(sum(s["flops"] for s in groups[key])),
            groups[key][0]["loc"],
        )
        for key in order[:_SHOWN]
    ]
    if rest := order[_SHOWN:]:
        left = sum(seconds[key] for key in rest)
        count = sum(len(groups[key]) for key in rest)
        share = f"{100 * left / total:.0f} %"
        rows.append((show_seconds(left), share, str(count), "", "...", "", "", ""))
    columns = ("time", "share", "steps", "kind", "what", "moves", "computes", "from")
    return table(columns, rows, right=("time", "share", "steps", "moves", "computes"))
