"""Measures backends side by side in one process and writes one JSON file.

    python -m benchmarks.measure --workloads flux,wan --backends eager,inductor,effcomp --out F.json
    python -m benchmarks.measure --tiny --device cpu --out F.json

Steady calls are timed in turns: every round gives each backend a short block of calls, so that
clocks, heat and neighbours weigh on all alike. The file is written anew after every workload.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.backends import BACKENDS, Unavailable, compiled
from benchmarks.first_call import FirstCalls
from benchmarks.schema import FirstCall, Kernel, Result, Row, Times, write
from benchmarks.workloads import WORKLOADS, Workload, build

__all__ = ["GIB", "distance", "first_tensor", "main", "versions_here"]

PHASES = ("times", "first", "kernels")
ROUNDS, BLOCK = 8, 5
GIB = 2**30
DISTRIBUTIONS = ("torch", "triton", "effcomp", "diffusers", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run was asked for."""

    backends: tuple[str, ...]
    phases: tuple[str, ...]
    device: str
    tiny: bool
    deadline: float
    warm_calls: int = 3

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


@dataclass(slots=True)
class Lane:
    """A backend on its way through one workload."""

    backend: str
    call: Callable[[], Any] | None = None
    status: Literal["ok", "unavailable", "failed", "skipped"] = "ok"
    why: str = ""
    error: float | None = None
    peak_gib: float | None = None
    held_gib: float | None = None
    samples: list[float] = field(default_factory=list[float])
    first_calls: list[float] = field(default_factory=list[float])
    kernels: tuple[Kernel, ...] = ()

    def stop(self, status: Literal["unavailable", "failed", "skipped"], why: str) -> None:
        self.status, self.why, self.call = status, why[:300], None

    def row(self, workload: str) -> Row:
        times = None
        if self.samples:
            times = Times(
                median=round(statistics.median(self.samples), 4),
                minimum=round(min(self.samples), 4),
                maximum=round(max(self.samples), 4),
                calls=len(self.samples),
            )
        first_call = None
        if len(self.first_calls) > 1:
            cold, *warm = self.first_calls
            first_call = FirstCall(
                cold=round(cold, 3), warm=round(statistics.median(warm), 3), warm_calls=len(warm)
            )
        return Row(
            workload=workload,
            backend=self.backend,
            status=self.status,
            why=self.why,
            times=times,
            error=self.error,
            peak_gib=self.peak_gib,
            held_gib=self.held_gib,
            first_call=first_call,
            kernels=self.kernels,
        )


def first_tensor(output: Any) -> Tensor:
    """The first tensor of what a model returns."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def distance(found: Tensor, truth: Tensor) -> float:
    """The norm of the difference over that of the truth, in float32."""
    found, truth = found.float(), truth.float()
    return float((found - truth).norm() / truth.norm())


def _truth(workload: Workload) -> Tensor:
    """The same call in float32, without the shortcut formats of matrix units."""
    torch.backends.cuda.matmul.allow_tf32 = False
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    exact = workload.in_float32()
    exact.prepare()
    output = first_tensor(exact.module(**exact.inputs)).float().clone()
    torch.backends.cudnn.allow_tf32 = allowed
    return output


def _start(lane: Lane, workload: Workload, truth: Tensor, plan: Plan, alone: int) -> None:
    """Compile, compare with the float32 result, and take the memory of steady calls.

    `alone` is what the workload itself keeps allocated. Whatever earlier lanes keep beyond it
    (packed weights, graph pools) is not this lane's and is taken off its peak.
    """
    before = torch.cuda.memory_allocated() if plan.on_gpu else 0
    reserved = torch.cuda.memory_reserved() if plan.on_gpu else 0
    function = compiled(lane.backend, workload.module)

    def call() -> Any:
        return function(**workload.inputs)

    workload.prepare()
    lane.error = distance(first_tensor(call()), truth)
    for _ in range(2):
        workload.prepare()
        call()
    plan.wait()
    if plan.on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        workload.prepare()
        call()
        plan.wait()
        lane.peak_gib = round((torch.cuda.max_memory_allocated() - before + alone) / GIB, 4)
        torch.cuda.empty_cache()
        lane.held_gib = round((torch.cuda.memory_reserved() - reserved) / GIB, 4)
    lane.call = call


def _block(call: Callable[[], Any], workload: Workload, plan: Plan) -> list[float]:
    """Time a block of calls in milliseconds, less the first, which meets an empty queue."""
    plan.wait()
    if not plan.on_gpu:
        spans: list[float] = []
        for _ in range(BLOCK):
            workload.prepare()
            start = time.perf_counter()
            call()
            spans.append((time.perf_counter() - start) * 1e3)
        return spans[1:]
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    for _ in range(BLOCK):
        pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        workload.prepare()
        pair[0].record()
        call()
        pair[1].record()
        events.append(pair)
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events[1:]]


def _time_in_turns(lanes: Sequence[Lane], workload: Workload, plan: Plan) -> None:
    for number in range(ROUNDS):
        if plan.seconds_left() < 0 and number > 0:
            return
        turn = number % max(len(lanes), 1)
        for lane in (*lanes[turn:], *lanes[:turn]):
            if lane.call is not None:
                lane.samples += _block(lane.call, workload, plan)


def _look_at_kernels(lane: Lane, workload: Workload, plan: Plan) -> None:
    """Keep the 15 kernels that take most of a call; on the CPU, operators."""
    from torch.profiler import ProfilerActivity, profile

    assert lane.call is not None, "only lanes that run are profiled"
    calls = 3
    activity = ProfilerActivity.CUDA if plan.on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=True) as profiler:
        for _ in range(calls):
            workload.prepare()
            lane.call()
        plan.wait()
    clock = "self_device_time_total" if plan.on_gpu else "self_cpu_time_total"
    averages: list[Any] = list(profiler.key_averages())
    averages.sort(key=lambda event: getattr(event, clock), reverse=True)
    lane.kernels = tuple(
        Kernel(
            name=str(event.key)[:64],
            launches=round(event.count / calls, 2),
            milliseconds=round(getattr(event, clock) / calls / 1e3, 4),
        )
        for event in averages[:15]
    )


def _attempt(lane: Lane, work: Callable[[], None], decisive: bool = True) -> None:
    """Run one step of a lane; what goes wrong there is a result of the run, not its end.

    A step that is not decisive leaves its note in the row and what was measured before in force.
    """
    try:
        work()
    except Unavailable as missing:
        lane.stop("unavailable", str(missing))
    except Exception as problem:  # noqa: BLE001 - a backend's failure is what the row reports
        note = f"{type(problem).__name__}: {problem}"
        if decisive:
            lane.stop("failed", note)
        else:
            lane.why = note[:300]


def _side_by_side(name: str, lanes: Sequence[Lane], plan: Plan) -> None:
    """What one process measures of all lanes; nothing of it stays on the device afterwards."""
    torch.compiler.reset()
    workload = build(name, plan.device, plan.tiny)
    truth = _truth(workload)
    gc.collect()
    if plan.on_gpu:
        torch.cuda.empty_cache()
    alone = torch.cuda.memory_allocated() if plan.on_gpu else 0
    for lane in lanes:
        _attempt(lane, partial(_start, lane, workload, truth, plan, alone))
        print(f"{name} {lane.backend}: {lane.status} {lane.why}", flush=True)
    if "times" in plan.phases:
        _time_in_turns(lanes, workload, plan)
    for lane in lanes:
        if "kernels" in plan.phases and lane.call is not None:
            _attempt(lane, partial(_look_at_kernels, lane, workload, plan), decisive=False)
        lane.call = None
    torch.compiler.reset()


def _look_at_first_calls(name: str, lanes: Sequence[Lane], plan: Plan) -> None:
    """A cold call of every lane, then warm ones in turns: what else the machine does hits all."""
    with FirstCalls(name, plan.device, plan.tiny) as calls:

        def call(lane: Lane) -> None:
            timeout = max(plan.seconds_left(), 60)
            lane.first_calls.append(calls.seconds(lane.backend, timeout))

        for number in range(1 + plan.warm_calls):
            for lane in lanes:
                if len(lane.first_calls) == number and plan.seconds_left() > 0:
                    _attempt(lane, partial(call, lane), decisive=False)
    for lane in lanes:
        spans = ", ".join(f"{seconds:.3f}" for seconds in lane.first_calls)
        print(f"{name} {lane.backend}: first calls {spans} {lane.why}", flush=True)


def _measure(name: str, plan: Plan) -> list[Row]:
    """Take one workload through every backend."""
    lanes = [Lane(backend) for backend in plan.backends]
    if plan.seconds_left() < 0:
        for lane in lanes:
            lane.stop("skipped", "the budget of the run was spent before")
        return [lane.row(name) for lane in lanes]
    if {"times", "kernels"} & set(plan.phases):
        _side_by_side(name, lanes, plan)
        gc.collect()
        if plan.on_gpu:
            torch.cuda.empty_cache()
    if "first" in plan.phases:
        compilers = [lane for lane in lanes if lane.status == "ok" and lane.backend != "eager"]
        _look_at_first_calls(name, compilers, plan)
    return [lane.row(name) for lane in lanes]


def versions_here() -> dict[str, str]:
    """Versions of what a measurement depends on."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["cuda"] = torch.version.cuda or "none"
    return found


def _choice(text: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := [item for item in chosen if item not in known]:
        raise SystemExit(f"no {what} named {unknown[0]!r}; there are {', '.join(known)}")
    return chosen


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--backends", default="eager,inductor,inductor_cg,effcomp")
    parser.add_argument("--phases", default=",".join(PHASES), help="times, first, kernels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=3600, help="seconds for the whole run")
    parser.add_argument("--warm-calls", type=int, default=3, help="of which the median counts")
    parser.add_argument("--tiny", action="store_true", help="shrunken models, to try the run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> Result:
    """Measure what the command line asks for, write it, and return it."""
    arguments = _parse(argv)
    names = _choice(arguments.workloads, list(WORKLOADS), "workload")
    plan = Plan(
        backends=_choice(arguments.backends, list(BACKENDS), "backend"),
        phases=_choice(arguments.phases, PHASES, "phase"),
        device=arguments.device,
        tiny=arguments.tiny,
        deadline=time.monotonic() + arguments.budget,
        warm_calls=arguments.warm_calls,
    )
    # All backends compile the same forward: the default limit is meant for one of them.
    dynamo: Any = torch._dynamo.config
    dynamo.recompile_limit = 64
    rows: list[Row] = []
    result: Result | None = None
    with torch.no_grad():
        for name in names:
            rows += _measure(name, plan)
            gc.collect()
            result = Result(
                date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                device=torch.cuda.get_device_name() if plan.on_gpu else platform.machine(),
                kind="cuda" if plan.on_gpu else "cpu",
                tiny=plan.tiny,
                versions=versions_here(),
                rows=tuple(rows),
            )
            write(result, arguments.out)
    assert result is not None, "there is at least one workload"
    for row in result.rows:
        took = f"{row.times.median:10.3f} ms" if row.times else f"{row.status:>13s}"
        error = f"{row.error:.2e}" if row.error is not None else ""
        print(f"{row.workload:14s} {row.backend:12s} {took}  {error}  {row.why}", flush=True)
    return result


if __name__ == "__main__":
    main()
