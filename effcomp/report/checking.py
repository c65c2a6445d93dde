"""What a report has to hold beside its types: those who draw it rely on it."""

from effcomp.errors import ReportError
from effcomp.report.schema import GraphReport, OpReport, ProgramReport, Report


def check_report(report: Report) -> None:
    """Raises ReportError where parts of a report do not fit each other."""
    for i, graph in enumerate(report.graphs):
        where = f"graph {i} ({graph.name!r})"
        _check_program(graph.program, where)
        _check_groups(graph, where)
        _check_memory(graph, where)


def _check_program(program: ProgramReport, where: str) -> None:
    known = {value.name for value in program.params}
    if len(known) != len(program.params):
        raise ReportError(f"{where}: two parameters have one name")
    for i, op in enumerate(program.ops):
        here = f"{where}, op {i} ({op.name!r})"
        if strangers := [name for name in op.reads if name not in known]:
            raise ReportError(f"{here} reads {strangers[0]!r}, which nothing above defines")
        if op.body is not None:
            _check_body(op, op.body, here)
        for value in op.results:
            if value.name in known:
                raise ReportError(f"{here} defines {value.name!r} again")
            known.add(value.name)
    if strangers := [name for name in program.outputs if name not in known]:
        raise ReportError(f"{where} returns {strangers[0]!r}, which nothing defines")


def _check_body(op: OpReport, body: ProgramReport, where: str) -> None:
    if len(op.reads) != len(body.params) or len(op.results) != len(body.outputs):
        raise ReportError(f"{where}: its body takes or gives another number of values")
    _check_program(body, f"{where}, body")


def _check_groups(graph: GraphReport, where: str) -> None:
    most = len(graph.program.ops)
    for i, group in enumerate(graph.groups):
        if not -1 <= group.op < most and most:
            raise ReportError(f"{where}, step {i}: op {group.op} of {most}")


def _check_memory(graph: GraphReport, where: str) -> None:
    memory = graph.memory
    for held in memory.holdings:
        if not held.first <= held.last <= len(graph.groups):
            raise ReportError(
                f"{where}: {held.name!r} is held from step {held.first} to {held.last} "
                f"of {len(graph.groups)}"
            )
        if held.offset is not None and held.offset + held.bytes > memory.arena_bytes:
            raise ReportError(f"{where}: {held.name!r} lies outside of the arena")
