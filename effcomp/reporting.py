"""From a Compilation to its report: the only file that knows both."""

import linecache
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

import torch

from effcomp.compilation import Compilation
from effcomp.ir import Graph, Op, print_graph
from effcomp.ir.text import name_values, print_attr
from effcomp.passes.grouping.sizes import TYPICAL_SIZE
from effcomp.plan.cubin import Cubin
from effcomp.plan.expressions import evaluate
from effcomp.plan.resources import resources_of
from effcomp.plan.schema import (
    CallStep,
    Cost,
    Kernel,
    Launch,
    Plan,
    RunRegion,
    Step,
    TritonKernel,
)
from effcomp.plan.text import print_call
from effcomp.report.schema import (
    GraphReport,
    GroupReport,
    Holding,
    KernelReport,
    MatchReport,
    MemoryReport,
    MissReport,
    OpReport,
    ProgramReport,
    RefusalReport,
    Roofs,
    SourceLines,
    StageReport,
    Unmodelled,
    ValueReport,
)
from effcomp.rewrite import Run, Stage
from effcomp.runtime.occupancy import occupancy
from effcomp.runtime.program import touched
from effcomp.target import Target

__all__ = ["report_of", "source_lines", "versions"]

# What a library's attention reaches of the matrix rate (cuDNN on an H200, by measurement).
_ATTENTION_EFFICIENCY = 0.85
_PRODUCTS = frozenset({"nn.linear", "tensor.matmul", "nn.attention", "nn.conv"})
_PACKAGES = ("effcomp", "triton")

Sizes = Mapping[str, int]


def report_of(
    record: Compilation, sizes: Sizes | None = None, cubins: Sequence[Cubin] = ()
) -> GraphReport:
    """What was done to one graph, for `sizes`: those it ran with last unless given.

    A size that nothing has told is taken for 512, and named in `assumed`. `cubins` are kernels of
    the plan that have been compiled: they tell what they take of a processor.
    """
    plan, captured = record.plan, record.captured.graph
    known = sizes or (record.executable.last_sizes if record.executable else {})
    full = {source.symbol: known.get(source.symbol, TYPICAL_SIZE) for source in plan.symbols}
    unmodelled = _unmodelled(captured)
    stages = record.run.stages if record.run else ()
    target = record.target
    return GraphReport(
        name=captured.name,
        role=record.role.value,
        target=plan.target,
        roofs=Roofs(
            target.bandwidth, target.matrix_rate, target.vector_rate, target.launch_seconds
        ),
        sizes=full,
        assumed=tuple(name for name in full if name not in known),
        modelled=sum(1 for _ in captured.ops) - sum(one.count for one in unmodelled),
        unmodelled=unmodelled,
        stages=_stages(stages),
        program=_program(stages[-1].graph) if stages else ProgramReport((), (), ()),
        groups=_groups(plan, full, target),
        kernels=_kernels(plan, cubins),
        refusals=_refusals(record.run),
        matches=dict(record.run.counts) if record.run else {},
        notes=(*plan.notes, *(record.executable.notes if record.executable else ())),
        memory=_memory(plan, full, target),
        seconds=dict(record.seconds),
        places=_places(record.run),
        misses=_misses(record.run),
    )


def versions() -> dict[str, str]:
    """Versions of what a compilation depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def source_lines(graphs: Iterable[GraphReport], model: object) -> tuple[SourceLines, ...]:
    """The lines of source that steps come from, where it is certain which file a line is in.

    Programs name files without their folders. A name is looked up among the modules that are
    loaded, those of the model's own package first; one that several files bear is left out.
    """
    wanted: dict[str, set[int]] = {}
    for graph in graphs:
        for group in graph.groups:
            file, _, number = group.loc.rpartition(":")
            if number.isdigit():
                wanted.setdefault(file, set()).add(int(number))
    package = _package(getattr(model, "__module__", None) or type(model).__module__)
    found: list[SourceLines] = []
    for file, numbers in sorted(wanted.items()):
        if path := _path_of(file, package):
            lines = {n: linecache.getline(path, n).strip() for n in sorted(numbers)}
            found.append(SourceLines(file, {n: line for n, line in lines.items() if line}))
    return tuple(found)


def _path_of(file: str, package: str) -> str:
    """The loaded source file of this name; empty if there is none, or more than one."""
    own: set[str] = set()
    others: set[str] = set()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and PurePath(path).name == file:
            (own if _package(name) == package else others).add(path)
    candidates = own or others
    return candidates.pop() if len(candidates) == 1 else ""


def _package(module: str) -> str:
    return module.partition(".")[0]


def _unmodelled(graph: Graph) -> tuple[Unmodelled, ...]:
    calls = (op for op in graph.ops if op.name == "aten.call")
    counted = Counter((str(op.attrs["target"]), str(op.attrs.get("why", ""))) for op in calls)
    return tuple(Unmodelled(target, why, count) for (target, why), count in counted.items())


def _stages(stages: Sequence[Stage]) -> tuple[StageReport, ...]:
    return tuple(
        StageReport(
            stage.spec,
            len(stage.graph.ops),
            stage.changed,
            stage.seconds,
            dict(stage.counts),
            print_graph(stage.graph) if stage.changed or i == 0 else "",
        )
        for i, stage in enumerate(stages)
    )


def _refusals(run: Run | None) -> tuple[RefusalReport, ...]:
    return tuple(
        RefusalReport(
            stage.spec, refusal.rule, refusal.reason, refusal.count, refusal.locs, str(refusal)
        )
        for stage in (run.stages if run else ())
        for refusal in stage.refusals
    )


def _places(run: Run | None) -> tuple[MatchReport, ...]:
    return tuple(
        MatchReport(stage.spec, match.rule, match.count, match.locs)
        for stage in (run.stages if run else ())
        for match in stage.matches
    )


def _misses(run: Run | None) -> tuple[MissReport, ...]:
    return tuple(
        MissReport(
            stage.spec, miss.rule, miss.matched, miss.total, miss.reason, miss.loc, str(miss)
        )
        for stage in (run.stages if run else ())
        for miss in stage.misses
    )


# The program that was lowered, as an op graph.


def _program(graph: Graph) -> ProgramReport:
    names = name_values(graph)

    def op_report(op: Op) -> OpReport:
        return OpReport(
            name=op.name,
            reads=tuple(names[v] for v in op.operands),
            results=tuple(ValueReport(names[r], str(r.type)) for r in op.results),
            attrs={key: print_attr(value) for key, value in op.attrs.items()},
            loc=op.loc,
            scope=op.scope,
            body=_program(op.body) if op.body is not None else None,
        )

    return ProgramReport(
        params=tuple(ValueReport(names[v], str(v.type), v.weight) for v in graph.params),
        ops=tuple(map(op_report, graph.ops)),
        outputs=tuple(names[v] for v in graph.outputs),
    )


# The plan: its steps, kernels and memory.


def _groups(plan: Plan, sizes: Sizes, target: Target) -> tuple[GroupReport, ...]:
    return tuple(
        _group(plan, step, cost, sizes, target)
        for step, cost in zip(plan.steps, plan.costs, strict=True)
    )


def _group(plan: Plan, step: Step, cost: Cost, sizes: Sizes, target: Target) -> GroupReport:
    grid: tuple[int, ...] = ()
    match step:
        case Launch(kernel=runs):
            kind = "kernel"
            grid = tuple(evaluate(extent, sizes) for extent in step.grid)
        case RunRegion(kernel=runs):
            kind = "region"
        case CallStep(call=call):
            kind, runs = "library", call.target
    moved, computed = evaluate(cost.bytes, sizes), evaluate(cost.flops, sizes)
    matrix = not _PRODUCTS.isdisjoint(cost.ops) and _is_half(plan, step)
    rate = target.matrix_rate if matrix else target.vector_rate
    if "nn.attention" in cost.ops:
        rate *= _ATTENTION_EFFICIENCY
    return GroupReport(
        kind=kind,
        label=cost.label,
        ops=cost.ops,
        bytes=moved,
        flops=computed,
        loc=cost.loc,
        scope=cost.scope,
        op=cost.op,
        runs=runs,
        grid=grid,
        matrix=matrix,
        estimate=max(moved / target.bandwidth, computed / rate) + target.launch_seconds,
    )


def _is_half(plan: Plan, step: Step) -> bool:
    """Whether a step reads 16-bit floats: the matrix units take those."""
    return any(plan.buffers[id].spec.dtype in ("bf16", "f16") for id in touched(step))


def _kernels(plan: Plan, cubins: Sequence[Cubin]) -> tuple[KernelReport, ...]:
    launches = Counter(step.kernel for step in plan.steps if not isinstance(step, CallStep))
    compiled: dict[str, list[Cubin]] = {}
    for cubin in cubins:
        compiled.setdefault(cubin.facts.kernel, []).append(cubin)
    return tuple(
        _kernel(kernel, launches[kernel.digest], compiled.get(kernel.digest, ()))
        for kernel in plan.kernels
    )


def _kernel(kernel: Kernel, launches: int, cubins: Sequence[Cubin]) -> KernelReport:
    """A kernel, with the most that any of its specialisations takes."""
    if isinstance(kernel, TritonKernel):
        source = kernel.source
        options = {
            "num_warps": str(kernel.num_warps),
            "num_stages": str(kernel.num_stages),
            **{name: str(value) for name, value in kernel.constants},
        }
    else:
        source = "\n".join((*map(print_call, kernel.calls), f"return {_ids(kernel.outputs)}"))
        options = {"inputs": str(kernel.inputs)}
    stated = [found for cubin in cubins if (found := resources_of(cubin.code))]
    return KernelReport(
        digest=kernel.digest,
        kind=kernel.kind,
        function=kernel.function,
        source=source,
        options=options,
        launches=launches,
        registers=max((one.registers for one in stated), default=None),
        stack_bytes=max((one.stack_bytes for one in stated), default=None),
        shared_bytes=max((cubin.facts.shared for cubin in cubins), default=None),
    )


def _ids(ids: Sequence[int]) -> str:
    return ", ".join(f"%{id}" for id in ids)


def _memory(plan: Plan, sizes: Sizes, target: Target) -> MemoryReport:
    found = occupancy(plan, sizes, torch.device(target.kind))
    specs = [buffer.spec for buffer in plan.buffers]
    return MemoryReport(
        peak_bytes=found.peak_bytes,
        arena_bytes=found.arena_bytes,
        weight_bytes=found.weight_bytes,
        input_bytes=found.input_bytes,
        holdings=tuple(
            Holding(
                name=plan.buffers[h.id].name or f"%{h.id}",
                type=f"{specs[h.id].dtype}[{', '.join(map(str, specs[h.id].shape))}]",
                place=h.place,
                bytes=h.bytes,
                first=h.first,
                last=h.last,
                offset=h.offset,
            )
            for h in found.holdings
        ),
    )
