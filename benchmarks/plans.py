"""Predicts what a plan costs at a workload's real shapes, without a GPU and without its memory.

    python -m benchmarks.plans --workload flux --target cuda:90 --out F.json
    python -m benchmarks.plans --workload flux --kernels --steps 20 --compile sm_90

The model is built from fake tensors, captured and compiled to a plan; nothing runs. Steps are
priced as reports price them (effcomp/reporting.py). These are predictions: they find plans that
move too much, and never stand for a measurement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.compiled_kernels import CompiledKernels, compile_kernels
from benchmarks.workloads import WORKLOADS, build
from effcomp import reporting
from effcomp.api import Compilation
from effcomp.capture import Captured, Role, compile_dynamo
from effcomp.compiling import build_plan, pipeline_of
from effcomp.config import Config
from effcomp.plan.schema import CallStep, Launch, Plan, RunRegion, Step
from effcomp.report.schema import GraphReport
from effcomp.runtime.occupancy import occupancy
from effcomp.target import TARGETS, Target

__all__ = ["main", "plan_of", "report_of"]


def plan_of(name: str, target: Target, tiny: bool = False) -> tuple[list[Compilation], float]:
    """Compile a workload of fake tensors; the compilations and the seconds Dynamo and AOT took."""
    found: list[Compilation] = []
    inside = 0.0

    def compile_graph(captured: Captured, role: Role) -> Callable[[list[Any]], list[Any]]:
        nonlocal inside
        start = time.perf_counter()
        record = Compilation(captured.graph.name, role, target, captured, cast(Plan, None))
        pipeline = pipeline_of(target, role, Config.from_user(None, None))
        record.plan = build_plan(captured.graph, target, pipeline, record)
        found.append(record)
        inside += time.perf_counter() - start
        return lambda args: _outputs(captured)

    def backend(gm: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        return compile_dynamo(gm, example_inputs, compile_graph)

    torch.compiler.reset()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        workload = build(name, "cpu", tiny)
        start = time.perf_counter()
        torch.compile(workload.module, backend=backend, dynamic=False)(**workload.inputs)
        return found, time.perf_counter() - start - inside


def _outputs(captured: Captured) -> list[Any]:
    dtypes = {
        "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
        "i64": torch.int64, "i32": torch.int32, "bool": torch.bool,
    }  # fmt: skip
    return [
        torch.empty([int(size) for size in v.shape], dtype=dtypes[v.dtype])
        for v in captured.graph.outputs
    ]


def _kind(step: Step) -> str:
    match step:
        case Launch():
            return "triton"
        case RunRegion():
            return "region"
        case CallStep(call=call, out=out):
            return (out or call.target).removeprefix("aten.")


def memory_of(report: GraphReport, prologue: Plan | None, target: Target) -> dict[str, int]:
    """Bytes of the arena, of outputs, of what calls return at most at once, and of the prologue."""
    held = report.memory.holdings
    calls = Counter[int]()
    for holding in held:
        if holding.place == "call":
            for step in range(holding.first, holding.last + 1):
                calls[step] += holding.bytes
    kept = occupancy(prologue, {}, torch.device(target.kind)).holdings if prologue else ()
    return {
        "arena": report.memory.arena_bytes,
        "outputs": sum(holding.bytes for holding in held if holding.place == "output"),
        "calls": max(calls.values(), default=0),
        "prologue": sum(holding.bytes for holding in kept if holding.place != "arena"),
    }


# The report.


def report_of(record: Compilation, capture_seconds: float) -> dict[str, Any]:
    """What the plan does, step by step, and what the roofline says of it."""
    plan, target = record.plan, record.target
    report = reporting.report_of(record, {})
    steps: list[dict[str, Any]] = [
        {
            "step": i,
            "kind": _kind(step),
            "label": step.label,
            "ops": list(group.ops),
            "microseconds": round(group.estimate * 1e6, 2),
            "mbytes": round(group.bytes / 1e6, 3),
            "gflops": round(group.flops / 1e9, 3),
            "loc": group.loc,
        }
        for i, (step, group) in enumerate(zip(plan.steps, report.groups, strict=True))
    ]
    by_kind = Counter[str]()
    for step in steps:
        by_kind[step["kind"]] += step["microseconds"]
    arithmetic = sum(group.flops for group in report.groups if group.matrix) / target.matrix_rate
    weights = report.memory.weight_bytes
    return {
        "prediction": True,
        "graph": plan.name,
        "target": target.name,
        "ops_captured": report.total,
        "steps": len(steps),
        "steps_by_kind": dict(Counter(s["kind"] for s in steps).most_common()),
        "distinct_kernels": sum(kernel.kind == "triton" for kernel in report.kernels),
        "predicted_milliseconds": round(sum(s["microseconds"] for s in steps) / 1e3, 4),
        "milliseconds_by_kind": {k: round(v / 1e3, 4) for k, v in by_kind.most_common()},
        "floor_milliseconds": round(1e3 * max(arithmetic, weights / target.bandwidth), 4),
        "weight_bytes": weights,
        "memory_bytes": memory_of(report, plan.prologue, target),
        "seconds": {
            "capture": round(capture_seconds, 2),
            **{k: round(v, 2) for k, v in record.seconds.items()},
        },
        "notes": list(plan.notes),
        "plan": steps,
    }


def _print(name: str, report: dict[str, Any], top: int) -> None:
    predicted, floor = report["predicted_milliseconds"], report["floor_milliseconds"]
    print(f"{name}: {predicted} ms predicted, floor {floor} ms")
    for key in (
        "ops_captured", "steps", "distinct_kernels", "steps_by_kind", "milliseconds_by_kind",
        "memory_bytes", "seconds",
    ):  # fmt: skip
        print(f"  {key}: {report[key]}")
    for note in report["notes"]:
        print(f"  note: {note}")
    largest = sorted(report["plan"], key=lambda s: -s["microseconds"])[:top]
    for s in largest:
        print(f"  {s['step']:4d} {s['microseconds']:9.1f} us {s['mbytes']:9.1f} MB "
              f"{s['gflops']:9.1f} GF  {s['kind']:24s} {s['label']}")  # fmt: skip


def _text(data: Any, indent: str = "") -> str:
    """JSON with a line for every field or item of the outer levels, and one for every step."""
    if len(indent) >= 4 or not isinstance(data, (dict, list)) or not data:
        return json.dumps(data) + ("" if indent else "\n")
    inner = indent + " "
    if isinstance(data, list):
        lines = [_text(item, inner) for item in data]
        opening, closing = "[]"
    else:
        lines = [f"{json.dumps(key)}: {_text(item, inner)}" for key, item in data.items()]
        opening, closing = "{}"
    body = ",\n".join(inner + line for line in lines)
    return f"{opening}\n{body}\n{indent}{closing}" + ("" if indent else "\n")


def _print_compiled(compiled: CompiledKernels) -> None:
    print(f"  compiled {len(compiled.kernels)} kernels in {compiled.seconds:.1f} s")
    for kernel in compiled.kernels:
        if kernel.spills or kernel.registers > 168 or kernel.error:
            print(f"    {kernel}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=tuple(WORKLOADS), required=True)
    parser.add_argument("--target", choices=tuple(TARGETS), default="cuda:90")
    parser.add_argument("--tiny", action="store_true", help="shrunken models, to try the tool")
    parser.add_argument("--steps", type=int, default=12, help="print so many of the largest steps")
    parser.add_argument("--kernels", action="store_true", help="print the kernels' sources")
    parser.add_argument("--compile", default="", help="compile the kernels: sm_90")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Predict what the command line asks for, print it, write it, and return it."""
    arguments = _parse(argv)
    target = TARGETS[arguments.target]
    records, capture_seconds = plan_of(arguments.workload, target, arguments.tiny)
    reports: list[dict[str, Any]] = []
    for record in records:
        report = report_of(record, capture_seconds)
        _print(arguments.workload, report, arguments.steps)
        if arguments.kernels:
            for kernel in record.plan.kernels:
                print(f"{'=' * 80}\n{getattr(kernel, 'source', kernel.function)}")
        if arguments.compile:
            compiled = compile_kernels(record.plan, int(arguments.compile.removeprefix("sm_")))
            _print_compiled(compiled)
            report["compiled"] = compiled.as_data()
        reports.append(report)
    if arguments.out is not None:
        arguments.out.write_text(_text({"workload": arguments.workload, "graphs": reports}))
    return reports


if __name__ == "__main__":
    main()
