"""A loaded plan: check the arguments, bind what their sizes need, run."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from effcomp.errors import DeviceError
from effcomp.plan.schema import Plan
from effcomp.runtime.bound import Bound, Machine, bind
from effcomp.runtime.graphs import Graphs
from effcomp.runtime.layouts import Layout, distance
from effcomp.runtime.ports import Expectation, admit, expect, read_sizes
from effcomp.runtime.profiling import Stopwatch, active_times
from effcomp.runtime.program import Program
from effcomp.runtime.prologue import Prologue
from effcomp.runtime.transients import memory_needed
from effcomp.runtime.workspace import Workspace, Workspaces

__all__ = ["Executable"]

_MOST_BOUND = 64
"""Sets of sizes kept bound. Binding again costs milliseconds, a bound set some kilobytes."""

_ANY_DEVICE = contextlib.nullcontext()


class _Bindings:
    """The name under which workspaces keep what is bound; whatever lies under it dies with it."""


class Executable:
    """A plan ready to be called: takes the arguments as one list, returns the results as one.

    The list is emptied, so that a caller who keeps no reference lets arguments be freed as soon as
    nothing reads them any more. Calls from several threads run one after the other.
    """

    def __init__(
        self,
        program: Program,
        machine: Machine,
        workspaces: Workspaces,
        constants: Sequence[torch.Tensor] = (),
        prologue: Prologue | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        self.plan: Plan = program.plan
        self.last_sizes: Mapping[str, int] = {}
        self.peak_bytes = 0
        self._program, self._machine, self._workspaces = program, machine, workspaces
        self._constants, self._prologue, self._graphs = tuple(constants), prologue, graphs
        self._expected: OrderedDict[tuple[int, ...], Expectation] = OrderedDict()
        self._bindings = _Bindings()
        self._mutated = tuple(i for i, port in enumerate(self.plan.ports) if port.mutated)
        self._shown = tuple(program.shown.items())
        self._lock = threading.RLock()

    @property
    def device(self) -> torch.device:
        """What the plan runs on."""
        return self._machine.device

    @property
    def notes(self) -> tuple[str, ...]:
        """What ran otherwise than the plan asked for, each remark with its count."""
        return self._machine.notes.lines()

    @property
    def compile_seconds(self) -> float:
        """Seconds that calls have spent compiling CPU regions: once for a set of sizes."""
        return self._machine.regions.compile_seconds

    def __call__(self, args: list[Any]) -> list[Any]:
        """Run the plan. Raises PlanError, KernelError, DeviceError."""
        given = [*args, *self._constants]
        sizes = read_sizes(self.plan, given)
        args.clear()
        # A kernel is loaded on one device, which need not be the caller's current one.
        device = self._machine.device
        current = torch.cuda.device(device) if device.type == "cuda" else _ANY_DEVICE
        with self._lock, torch.no_grad(), current:
            return self._call(given, sizes)

    def release(self) -> None:
        """Drop everything bound; the next call binds anew."""
        with self._lock:
            self._forget()
            self._expected.clear()

    def _call(self, given: list[Any], sizes: dict[str, int]) -> list[Any]:
        key = tuple(sizes.values())
        device = self._machine.device
        expected = self._expected.get(key)
        if expected is None:
            aligned = self._program.aligned if device.type != "cpu" else frozenset[int]()
            expected = expect(self.plan, sizes, aligned)
            _keep(self._expected, key, expected)
        mutated = [given[port] for port in self._mutated]
        callers = [given[port] for _, port in self._shown] if self._shown else ()
        write_back = admit(self.plan, expected, given, device, self._machine.notes)
        if self._prologue is not None and self._prologue.update(given):
            self._forget()
        admitted = [given[port] for _, port in self._shown] if self._shown else ()
        try:
            outputs = self._replay(key, sizes, given) if active_times() is None else None
            if outputs is None:
                outputs = self._run(key, sizes, given)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not _is_out_of_memory(error):
                raise
            raise DeviceError(self._out_of_memory(sizes)) from error
        self.last_sizes = sizes
        if callers:
            for (index, _), tensor, copy in zip(self._shown, callers, admitted, strict=True):
                if copy is not tensor:
                    outputs[index] = _moved(outputs[index], copy, tensor)
        _finish(mutated, outputs, write_back)
        return outputs

    def _run(self, key: tuple[int, ...], sizes: dict[str, int], args: list[Any]) -> list[Any]:
        """Run step by step, in a workspace that is lent for this call."""
        workspace = self._workspaces.take(self._machine.device)
        try:
            entries = workspace.bound.setdefault(self._bindings, OrderedDict())
            bound = entries.get(key)
            if bound is None:
                bound = self._bind(sizes, workspace)  # which may clear workspace.bound
                entries = workspace.bound.setdefault(self._bindings, OrderedDict())
            _keep(entries, key, bound)
            self.peak_bytes = bound.peak_bytes
            times = active_times()
            if times is None:
                return bound.run(args)
            watch = Stopwatch(self._machine.device)
            outputs = bound.run_timed(args, watch)
            times[self] = watch.seconds()
            return outputs
        finally:
            self._workspaces.give_back(workspace)

    def _replay(
        self, key: tuple[int, ...], sizes: dict[str, int], args: list[Any]
    ) -> list[Any] | None:
        """Replay a CUDA graph; None where this call has to run step by step."""
        if self._graphs is None:
            return None

        def run(given: list[Any]) -> list[Any]:
            workspace = Workspace(self._machine.device, private=True)
            return self._bind(sizes, workspace).run(given)

        return self._graphs.call(key, sizes, args, run)

    def _bind(self, sizes: dict[str, int], workspace: Workspace) -> Bound:
        with torch.inference_mode(False), torch.no_grad():
            constants = self._prologue.results if self._prologue else ()
            return bind(self._program, self._machine, sizes, constants, workspace)

    def _forget(self) -> None:
        self._bindings = _Bindings()
        if self._graphs is not None:
            self._graphs.clear()

    def _out_of_memory(self, sizes: Mapping[str, int]) -> str:
        total, largest = memory_needed(self._program, sizes, self._machine.device)
        names = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in largest)
        return (
            f"{self._machine.device} is out of memory in plan {self.plan.name}: it needs "
            f"{total / 2**20:.1f} MiB beside its arguments for sizes {dict(sizes)}; the largest "
            f"buffers are {names or 'none'}. Use smaller inputs, or free other tensors"
        )


def _moved(view: torch.Tensor, copy: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """A view of the copy of an argument as one of the argument, where they lie alike."""
    if copy.stride() != given.stride() or copy.device != given.device:
        return view
    return Layout.of(view).view(given, distance(view, copy))


def _finish(
    mutated: Sequence[torch.Tensor],
    outputs: list[Any],
    write_back: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """Give back the caller's own tensors, and count a version where kernels wrote into one."""
    originals = {id(copy): tensor for tensor, copy in write_back}
    for tensor, copy in write_back:
        tensor.copy_(copy)
    for index, output in enumerate(outputs):
        if id(output) in originals:
            outputs[index] = originals[id(output)]
    for tensor in mutated:
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)


def _keep(entries: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > _MOST_BOUND:
        entries.popitem(last=False)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
