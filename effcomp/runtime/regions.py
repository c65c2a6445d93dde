"""CPU regions: lines of ATen calls, compiled by Inductor or run one by one."""

import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from effcomp.errors import FallbackWarning
from effcomp.plan.schema import Plan, RegionKernel, RunRegion
from effcomp.runtime.bound import Action
from effcomp.runtime.calls import Slots, buffers_in, may_alias, operator, prepare, results_of
from effcomp.runtime.layouts import Layout
from effcomp.runtime.notes import Notes
from effcomp.runtime.region_compiler import CompiledRegion, RegionSource, compile_region, is_warm
from effcomp.runtime.workers import progress_bar, run_in_workers

__all__ = ["Regions"]

_WORTH_SECONDS = 2e-4
_BANDWIDTH = 2e10  # bytes/s that one core streams
_MOST_VARIANTS = 4
_WORKERS_FROM = 16  # a worker imports torch and probes the C++ compiler: some ten seconds

_COMPILED: dict[RegionSource, list[CompiledRegion]] = {}
_FAILED: dict[RegionSource, str] = {}
_LOCK = threading.RLock()


class Regions:
    """The regions of a plan.

    Mode "always" compiles every region, "never" none. "auto" compiles where the tensors are large:
    one fused loop instead of n calls saves about (n - 1) passes over a region's inputs and outputs,
    and where all uses of a region save less than 0.2 ms a call of the plan (about 4 MB of traffic),
    seconds of C++ compile time are not worth it. A region that does not compile runs call by call,
    with a FallbackWarning. Sizes are symbolic in compiled code, except that sizes 0 and 1 run call
    by call: Inductor's code is for sizes from 2 on.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        mode: Literal["auto", "always", "never"],
        progress: bool | None,
        notes: Notes,
    ) -> None:
        self.compile_seconds = 0.0
        self._plan, self._mode, self._progress, self._notes = plan, mode, progress, notes
        self._steps = tuple(step for step in plan.steps if isinstance(step, RunRegion))
        kernels = {k.digest: k for k in plan.kernels if isinstance(k, RegionKernel)}
        self._interpreted = {
            digest: InterpretedRegion(kernel, device) for digest, kernel in kernels.items()
        }
        self._sources = {
            step: RegionSource(
                kernels[step.kernel],
                tuple(plan.buffers[id].spec for id in step.inputs),
                tuple(plan.buffers[id].spec for id in step.outputs),
            )
            for step in self._steps
        }

    def prepare(self, sizes: Mapping[str, int], layouts: Sequence[Layout]) -> None:
        """Compile what is worth it for these sizes and is not compiled yet."""
        if self._mode == "never" or not self._steps:
            return
        worth = self._worth(layouts)
        if len(worth) < len(self._interpreted):
            self._notes.add(
                f"{len(self._interpreted) - len(worth)} of {len(self._interpreted)} regions run "
                "call by call: their tensors are too small for compiling them to pay"
            )
        start = time.perf_counter()
        with _LOCK:
            missing = [s for s in worth if self._is_missing(s, sizes)]
            hints = {s: tuple((name, sizes[name]) for name in s.symbols) for s in missing}
            threads = torch.get_num_threads()
            with progress_bar("compiling regions", len(missing), self._progress) as done:
                cold = [s for s in missing if not is_warm(s, hints[s], threads)]
                if len(cold) >= _WORKERS_FROM:
                    task = f"{compile_region.__module__}:{compile_region.__name__}"
                    run_in_workers(task, [(s, hints[s], threads) for s in cold])
                for source in missing:
                    self._compile(source, hints[source], threads)
                    done()
        self.compile_seconds += time.perf_counter() - start

    def bind(
        self,
        step: RunRegion,
        sizes: Mapping[str, int],
        layouts: Sequence[Layout],
        adoptable: Sequence[bool],
    ) -> Action:
        """A run of a region.

        `layouts` and `adoptable` are of the step's outputs; where a buffer is adoptable its slot
        takes a new tensor of that layout instead of being filled.
        """
        if self._mode != "never":
            for compiled in _COMPILED.get(self._sources[step], ()):
                if compiled.accepts(sizes):
                    return _bind_compiled(compiled, step, sizes, layouts, adoptable)
        return self._interpreted[step.kernel].bind(step, sizes, layouts, adoptable)

    def _worth(self, layouts: Sequence[Layout]) -> list[RegionSource]:
        if self._mode == "always":
            return list(dict.fromkeys(self._sources.values()))
        saved: dict[RegionSource, float] = {}
        for step, source in self._sources.items():
            passes = sum(not may_alias(call.target) for call in source.kernel.calls) - 1
            moved = sum(layouts[id].nbytes for id in {*step.inputs, *step.outputs})
            saved[source] = saved.get(source, 0.0) + passes * moved / _BANDWIDTH
        return [source for source, seconds in saved.items() if seconds >= _WORTH_SECONDS]

    def _is_missing(self, source: RegionSource, sizes: Mapping[str, int]) -> bool:
        name = source.kernel.function
        if source in _FAILED:
            self._notes.add(f"region {name} runs call by call: {_FAILED[source]}")
            return False
        variants = _COMPILED.get(source, ())
        if any(compiled.accepts(sizes) for compiled in variants):
            return False
        if any(sizes[symbol] < 2 for symbol in source.symbols):
            self._notes.add(f"region {name} runs call by call where a size is 0 or 1")
            return False
        if len(variants) >= _MOST_VARIANTS:
            self._notes.add(f"region {name} runs call by call for sizes no compiled variant takes")
            return False
        return True

    def _compile(
        self, source: RegionSource, hints: tuple[tuple[str, int], ...], threads: int
    ) -> None:
        try:
            _COMPILED.setdefault(source, []).append(compile_region(source, hints, threads))
        except Exception as error:  # noqa: BLE001 - whatever Inductor or the C++ compiler raises
            lines = str(error).strip().splitlines() or [""]
            reason = f"Inductor failed with {type(error).__name__}: {lines[0][:200]}"
            _FAILED[source] = reason
            name = source.kernel.function
            self._notes.add(f"region {name} runs call by call: {reason}")
            warnings.warn(
                f"region {name} of plan {self._plan.name} runs call by call: {reason}",
                FallbackWarning,
                stacklevel=2,
            )


def _bind_compiled(
    compiled: CompiledRegion,
    step: RunRegion,
    sizes: Mapping[str, int],
    layouts: Sequence[Layout],
    adoptable: Sequence[bool],
) -> Action:
    values = tuple(sizes[name] for name in compiled.source.symbols)
    run, inputs, outputs = compiled.run, step.inputs, step.outputs
    if not compiled.source.writes:

        def call(slots: Slots) -> None:
            read = [slots[id] for id in inputs]
            deliver(run(*values, *read), read, outputs, layouts, adoptable, slots)

        return call
    fresh = tuple(
        (id, layout) for id, layout, free in zip(outputs, layouts, adoptable, strict=True) if free
    )

    def fill(slots: Slots) -> None:
        for id, layout in fresh:
            slots[id] = layout.empty(torch.device("cpu"))
        run(*values, *(slots[id] for id in inputs), *(slots[id] for id in outputs))

    return fill


class InterpretedRegion:
    """A region run call by call."""

    def __init__(self, kernel: RegionKernel, device: torch.device) -> None:
        self.kernel, self.device = kernel, device
        self._drops = _drops(kernel)
        self._fresh = _returns_fresh(kernel)
        self._size = 1 + max(
            (
                kernel.inputs - 1,
                *kernel.outputs,
                *(id for call in kernel.calls for id in call.results if id is not None),
            )
        )

    def bind(
        self,
        step: RunRegion,
        sizes: Mapping[str, int],
        layouts: Sequence[Layout],
        adoptable: Sequence[bool],
    ) -> Action:
        """A run of the region on the buffers of `step`."""
        calls = [
            (
                prepare(call, operator(call.target), sizes, self.device),
                call.results,
                call.target,
                drop,
            )
            for call, drop in zip(self.kernel.calls, self._drops, strict=True)
        ]
        inputs, outputs, fresh = step.inputs, self.kernel.outputs, self._fresh
        padding = [None] * (self._size - len(inputs))
        places = tuple(zip(step.outputs, outputs, layouts, adoptable, strict=True))

        def run(slots: Slots) -> None:
            local: list[Any] = [*(slots[id] for id in inputs), *padding]
            for call, results, name, drop in calls:
                returned = call(local)
                if len(results) > 1 or not isinstance(returned, torch.Tensor):
                    for id, value in zip(
                        results, results_of(returned, len(results), name), strict=False
                    ):
                        if id is not None:
                            local[id] = value
                elif results and results[0] is not None:
                    local[results[0]] = returned
                for id in drop:
                    local[id] = None
            if not fresh:
                read = [slots[id] for id in inputs]
                values = [local[id] for id in outputs]
                deliver(values, read, step.outputs, layouts, adoptable, slots)
                return
            for buffer, id, layout, free in places:
                if not free:
                    slots[buffer].copy_(local[id])
                elif (adopted := layout.adopted(local[id])) is not None:
                    slots[buffer] = adopted
                else:
                    slots[buffer] = layout.empty(local[id].device).copy_(local[id])

        return run


def deliver(
    values: Sequence[torch.Tensor],
    read: Sequence[torch.Tensor],
    outputs: Sequence[int],
    layouts: Sequence[Layout],
    adoptable: Sequence[bool],
    slots: Slots,
) -> None:
    """Put a region's results into its output buffers: as they are where allowed, else copied.

    Memory that the region read, or that two results share, is never handed on.
    """
    shared = {tensor.untyped_storage().data_ptr() for tensor in read}
    if len(values) > 1:
        # A result that lies in an input must not change while the others are copied: the first
        # buffer filled may be that input's.
        values = [v.clone() if v.untyped_storage().data_ptr() in shared else v for v in values]
    for value, id, layout, free in zip(values, outputs, layouts, adoptable, strict=True):
        if not free:
            slots[id].copy_(value)
            continue
        owner = value.untyped_storage().data_ptr()
        whole = value.untyped_storage().nbytes() == layout.nbytes
        adopted = layout.adopted(value) if whole and owner not in shared else None
        slots[id] = layout.empty(value.device).copy_(value) if adopted is None else adopted
        shared.add(owner)


def _drops(kernel: RegionKernel) -> tuple[tuple[int, ...], ...]:
    """Values to forget after each call of the region."""
    last: dict[int, int] = {}
    for index, call in enumerate(kernel.calls):
        last.update((id, index) for id in buffers_in(call))
    lists: list[list[int]] = [[] for _ in kernel.calls]
    for id, index in last.items():
        if id not in kernel.outputs:
            lists[index].append(id)
    return tuple(map(tuple, lists))


def _returns_fresh(kernel: RegionKernel) -> bool:
    """Whether every output is a new tensor of its own, for all that the operators' schemas say.

    A view among the calls may show an output; it is none itself, and dies with the run.
    """
    made = {
        id
        for call in kernel.calls
        if not may_alias(call.target)
        for id in call.results
        if id is not None
    }
    return made.issuperset(kernel.outputs) and len(set(kernel.outputs)) == len(kernel.outputs)
