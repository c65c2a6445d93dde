"""`effcomp compile --emit`: the compiler's forms of a program, as text."""

from collections.abc import Iterator
from pathlib import Path

from effcomp.ahead import Planned
from effcomp.cli.console import write_text
from effcomp.compilation import Compilation
from effcomp.errors import ConfigError, nearest
from effcomp.ir import print_graph
from effcomp.plan.schema import Plan, TritonKernel
from effcomp.plan.text import print_plan

__all__ = ["emit_text"]

_FORMS = ("ir", "mlir", "plan", "triton")


def emit_text(planned: Planned, form: str, output: Path | None) -> None:
    """Write one target's program in a form: ir[:PASS], plan, triton, mlir:DIALECT."""
    if len(planned.records) != 1:
        raise ConfigError("--emit writes one target's text: give one --target")
    record = planned.records[0]
    kind, _, detail = form.partition(":")
    match kind, detail:
        case "ir", _:
            text = _ir(record, detail)
        case "plan", "":
            text = print_plan(record.plan)
        case "triton", "":
            text = _triton(record.plan)
        case "mlir", _:
            text = _mlir(record, detail)
        case _:
            raise ConfigError(f"--emit {form!r} is no form; {nearest(kind, _FORMS)}")
    write_text(output, text if text.endswith("\n") else f"{text}\n")


def _ir(record: Compilation, after: str) -> str:
    """The program after the first pass of this name, or the last; "captured" is the first."""
    assert record.run is not None, "nothing of the cache is read here"
    stages = {stage.spec.partition("{")[0]: stage for stage in reversed(record.run.stages)}
    if after and after not in stages:
        raise ConfigError(f"--emit ir:{after}: no such pass is run; {nearest(after, stages)}")
    return print_graph(stages[after].graph if after else record.run.graph)


def _mlir(record: Compilation, name: str) -> str:
    """The captured program in a dialect of MLIR; weights are arguments."""
    from effcomp.mlir import DIALECTS, export

    for dialect in DIALECTS:
        if dialect == name:
            return export(record.captured.graph, dialect)
    raise ConfigError(f"--emit mlir:{name}: no such dialect; {nearest(name, DIALECTS)}")


def _triton(plan: Plan) -> str:
    """The kernels' sources, each below a line that names it."""
    kernels = list(_kernels(plan))
    if not kernels:
        raise ConfigError(
            f"the plan for {plan.target} has no Triton kernels; give --target cuda:90"
        )
    return "\n".join(
        f"# ---- {kernel.function}: {kernel.num_warps} warps, {kernel.num_stages} stages"
        f"\n{kernel.source}"
        for kernel in kernels
    )


def _kernels(plan: Plan) -> Iterator[TritonKernel]:
    yield from (kernel for kernel in plan.kernels if isinstance(kernel, TritonKernel))
    if plan.prologue is not None:
        yield from _kernels(plan.prologue)
