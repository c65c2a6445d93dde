"""Predicts what a plan costs at a workload's real shapes, without a GPU and without its memory.

    python -m benchmarks.plans --workload flux --target cuda:90 --out F.json
    python -m benchmarks.plans --workload flux --kernels --steps 20 --compile sm_90

The model is built from fake tensors, captured and compiled to a plan; nothing runs. A step's time
is the larger of its bytes over the bandwidth and its arithmetic over the rate, plus a launch. These
are predictions: they find plans that move too much, and never stand for a measurement.
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
from effcomp.api import Compilation, build_plan, pipeline_of
from effcomp.capture import Captured, Role, compile_dynamo
from effcomp.config import Config
from effcomp.ir.types import ITEMSIZE
from effcomp.plan.schema import (
    ArenaPlace,
    Buffer,
    CallPlace,
    CallStep,
    Cost,
    Launch,
    OutputPlace,
    Plan,
    RunRegion,
    Step,
    TritonKernel,
)
from effcomp.runtime.memory import Span, extent, place_spans
from effcomp.target import TARGETS, Target

__all__ = ["main", "plan_of", "report_of"]

ALIGNMENT = 512
# Library calls whose arithmetic runs on the matrix unit, by the op they stand for.
MATRIX_OPS = ("nn.linear", "tensor.matmul", "nn.attention", "nn.conv", "aten.call")
# What a library's attention reaches of the matrix rate (cuDNN on an H200, by measurement).
ATTENTION_EFFICIENCY = 0.85


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


# Time.


def _is_matrix(step: Step, cost: Cost) -> bool:
    if isinstance(step, Launch):
        return any(op in MATRIX_OPS for op in cost.ops)
    return any(op in MATRIX_OPS for op in (*cost.ops, step.label))


def _microseconds(step: Step, cost: Cost, target: Target) -> float:
    """By roofline; a step without a cost of its own counts as a launch."""
    moved, flops = float(cost.bytes), float(cost.flops)
    rate = target.matrix_rate if _is_matrix(step, cost) else target.vector_rate
    if "nn.attention" in cost.ops:
        rate *= ATTENTION_EFFICIENCY
    return 1e6 * (max(moved / target.bandwidth, flops / rate) + target.launch_seconds)


def _kind(step: Step) -> str:
    match step:
        case Launch():
            return "triton"
        case RunRegion():
            return "region"
        case CallStep(call=call, out=out):
            return (out or call.target).removeprefix("aten.")


# Memory.


def _bytes(buffer: Buffer) -> int:
    if not buffer.spec.dtype:
        return 0
    shape = [int(size) for size in buffer.spec.shape]
    return extent(shape, [int(s) for s in buffer.spec.strides]) * ITEMSIZE[buffer.spec.dtype]


def memory_of(plan: Plan) -> dict[str, int]:
    """Bytes of the arena, of outputs, of what calls return at most at once, and of the prologue."""
    spans: list[Span] = []
    outputs, calls = 0, Counter[int]()
    made = _first_steps(plan)
    for i, buffer in enumerate(plan.buffers):
        match buffer.place:
            case ArenaPlace(first=first, last=last):
                spans.append(Span(_bytes(buffer), first, last))
            case OutputPlace():
                outputs += _bytes(buffer)
            case CallPlace(last=last):
                for at in range(made.get(i, last), last + 1):
                    calls[at] += _bytes(buffer)
            case _:
                pass
    arena = place_spans(spans, ALIGNMENT)[1]
    extra = 0
    if plan.prologue is not None:
        kept = [
            plan.prologue.buffers[o.buffer] for o in plan.prologue.outputs if o.buffer is not None
        ]
        extra = sum(_bytes(b) for b in kept if isinstance(b.place, (OutputPlace, CallPlace)))
    return {
        "arena": arena,
        "outputs": outputs,
        "calls": max(calls.values(), default=0),
        "prologue": extra,
    }


def _first_steps(plan: Plan) -> dict[int, int]:
    found: dict[int, int] = {}
    for at, step in enumerate(plan.steps):
        made = step.call.results if isinstance(step, CallStep) else ()
        for buffer in made:
            if buffer is not None:
                found.setdefault(buffer, at)
    return found


# The report.


def report_of(record: Compilation, capture_seconds: float) -> dict[str, Any]:
    """What the plan does, step by step, and what the roofline says of it."""
    plan, target = record.plan, record.target
    steps: list[dict[str, Any]] = []
    floor = 0.0
    for i, (step, cost) in enumerate(zip(plan.steps, plan.costs, strict=True)):
        matrix = float(cost.flops) if _is_matrix(step, cost) else 0.0
        floor += matrix / target.matrix_rate
        steps.append(
            {
                "step": i,
                "kind": _kind(step),
                "label": step.label,
                "ops": list(cost.ops),
                "microseconds": round(_microseconds(step, cost, target), 2),
                "mbytes": round(float(cost.bytes) / 1e6, 3),
                "gflops": round(float(cost.flops) / 1e9, 3),
                "loc": cost.loc,
            }
        )
    weights = sum(
        _port_bytes(p.spec.dtype, p.spec.shape) for p in plan.ports if p.weight and p.spec
    )
    kernels = [k for k in plan.kernels if isinstance(k, TritonKernel)]
    by_kind = Counter[str]()
    for s in steps:
        by_kind[s["kind"]] += s["microseconds"]
    return {
        "prediction": True,
        "graph": plan.name,
        "target": target.name,
        "ops_captured": len(record.captured.graph.ops),
        "steps": len(steps),
        "steps_by_kind": dict(Counter(s["kind"] for s in steps).most_common()),
        "distinct_kernels": len(kernels),
        "predicted_milliseconds": round(sum(s["microseconds"] for s in steps) / 1e3, 4),
        "milliseconds_by_kind": {k: round(v / 1e3, 4) for k, v in by_kind.most_common()},
        "floor_milliseconds": round(1e3 * max(floor, weights / target.bandwidth), 4),
        "weight_bytes": weights,
        "memory_bytes": memory_of(plan),
        "seconds": {
            "capture": round(capture_seconds, 2),
            **{k: round(v, 2) for k, v in record.seconds.items()},
        },
        "notes": list(plan.notes),
        "plan": steps,
    }


def _port_bytes(dtype: str, shape: Sequence[int | str]) -> int:
    count = ITEMSIZE[dtype]
    for size in shape:
        count *= int(size)
    return count


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
