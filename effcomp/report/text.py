"""A report as text for a terminal."""

import textwrap

from effcomp.report.schema import GraphReport, MatchReport, Report
from effcomp.report.units import show_bytes, show_flops


def report_text(report: Report) -> str:
    """What was done, most general first: graphs, then the passes and steps of each."""
    lines = [
        f"{len(report.graphs)} graph(s), {len(report.breaks)} graph break(s), "
        f"{len(report.fallbacks)} fallback(s)"
    ]
    lines += [f"  break: {reason}" for reason in report.breaks]
    lines += [f"  fallback: {reason}" for reason in report.fallbacks]
    for graph in report.graphs:
        lines += ["", *_graph(graph)]
    return "\n".join(lines)


def _match(match: MatchReport) -> str:
    name = match.stage.partition("{")[0]
    more = ", ..." if match.count > len(match.locs) > 0 else ""
    return f"    {name:20} {match.rule:26} x{match.count:<5} {', '.join(match.locs)}{more}".rstrip()


def _graph(graph: GraphReport) -> list[str]:
    shown = {stage: value for stage, value in graph.seconds.items() if stage != "plan"}
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in shown.items())
    lines = [
        f"graph {graph.name} ({graph.role}, {graph.target}): {graph.modelled} of {graph.total} ops "
        "modelled, "
        f"{len(graph.groups)} steps, {len(graph.kernels)} distinct kernels, "
        f"memory peak {show_bytes(graph.peak_bytes)}",
        f"  compiled in: {seconds}",
    ]
    lines += [f"  aten.call {one.target} x{one.count}: {one.why}" for one in graph.unmodelled]
    lines += [f"  note: {note}" for note in graph.notes]
    lines.append("  passes:")
    lines += [
        f"    {stage.spec:40} {stage.ops:5} ops {stage.seconds * 1e3:8.1f} ms"
        for stage in graph.stages
    ]
    if graph.places:
        lines.append("  matches:")
        lines += map(_match, graph.places)
    if graph.misses:
        lines.append("  nearest misses:")
        lines += [f"    {miss.text} ({miss.stage})" for miss in graph.misses]
    if graph.refusals:
        lines.append("  refusals:")
        refused = "\n".join(refusal.text for refusal in graph.refusals)
        lines += textwrap.indent(refused, "    ").splitlines()
    lines.append("  steps:")
    lines += [
        f"    {group.kind:8} {group.label[:48]:48} {show_bytes(group.bytes):>10}"
        f" {show_flops(group.flops):>13}  {group.loc}"
        for group in graph.groups
    ]
    return lines
