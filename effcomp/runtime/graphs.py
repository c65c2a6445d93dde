"""CUDA graphs: replaying a plan's launches at once, where starting them takes longest.

The first call for a set of sizes runs as usual, which warms up libraries and loads kernels; the
second is captured. Capturing runs nothing, so mutated arguments change once a call. Arguments are
copied into memory of the graph, except weights and mutated ones: those are used where they lie, and
another address means another capture. Results are copied out, so that no replay changes what a
caller holds; those that share memory still do. Because nothing in a graph's memory outlives a call,
all graphs of a device share one pool.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from weakref import WeakSet

import torch

from effcomp.errors import KernelError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import (
    AtenCall,
    CallStep,
    ConstArg,
    InputPlace,
    OutputPlace,
    Plan,
    RunRegion,
    TensorSpec,
)
from effcomp.runtime.calls import buffers_in, operator
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.layouts import Layout, distance
from effcomp.runtime.memory import extent
from effcomp.runtime.notes import Notes
from effcomp.runtime.program import Program, root_of
from effcomp.target import TARGETS

__all__ = ["CudaCapture", "Graphs", "Recording", "refusal", "why_not_replay"]

_MOST_GRAPHS = 16
"""Sets of sizes kept captured by an executable; each holds its inputs and outputs."""

_MOST_CAPTURES = 4
"""Captures for one set of sizes before moving addresses are taken as a habit of the caller's."""

_CALL_SECONDS = 12e-6
"""What starting a torch operator takes on the host: dispatch, allocation, choosing a kernel."""

_UNSAFE_TAGS = ("cudagraph_unsafe", "data_dependent_output", "dynamic_output_shape")

Run = Callable[[list[Any]], list[Any]]


class Recording(Protocol):
    """Captured launches; the results are always in the same tensors."""

    results: list[Any]

    def replay(self) -> None:
        """Run the launches on the current stream."""
        ...


class CudaCapture:
    """Capturing on one device; its recordings share a memory pool."""

    _lock = threading.Lock()
    _by_device: dict[torch.device, "CudaCapture"] = {}  # noqa: RUF012 - filled under the lock

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()
        self._sharing = WeakSet[_CudaRecording]()  # the pool's living graphs
        self._side = torch.cuda.Stream(device)
        self._last: torch.cuda.Stream | None = None
        self.lock = threading.RLock()

    @classmethod
    def of(cls, device: torch.device) -> "CudaCapture":
        with cls._lock:
            if device not in cls._by_device:
                cls._by_device[device] = cls(device)
            return cls._by_device[device]

    @classmethod
    def release(cls) -> None:
        """Start new pools; an old one is freed with its last graph."""
        with cls._lock:
            cls._by_device.clear()

    def capturing(self) -> bool:
        """Whether the caller is capturing a graph of their own, which this call is then part of."""
        return torch.cuda.is_current_stream_capturing()

    def capture(self, run: Callable[[], list[Any]]) -> Recording:
        """Record what `run` launches. Raises RuntimeError where torch cannot."""
        graph = torch.cuda.CUDAGraph()
        # The allocator refuses a pool whose last graph has gone: one is kept alive till the end.
        companion = next(iter(self._sharing), None)
        if companion is None:
            self._leave_pool()
        current = torch.cuda.current_stream(self.device)
        try:
            # The outer stream context restores the caller's stream: torch's capture leaves its own
            # current where ending it fails. Other threads (loading data, say) may go on allocating
            # while this one captures.
            with (
                torch.cuda.device(self.device),
                torch.cuda.stream(current),
                torch.cuda.graph(
                    graph, pool=self.pool, stream=self._side, capture_error_mode="thread_local"
                ),
            ):
                results = run()
        except BaseException:
            # The allocator may take the pool as still being captured into, for ever.
            self._leave_pool()
            raise
        del companion
        made = _CudaRecording(graph, results)
        self._sharing.add(made)
        return made

    def _leave_pool(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self._sharing = WeakSet[_CudaRecording]()

    def follow_stream(self) -> None:
        """Order this use of the pool after the previous one, where that was on another stream."""
        current = torch.cuda.current_stream(self.device)
        if self._last is not None and self._last != current:
            current.wait_stream(self._last)
        self._last = current


@dataclass(slots=True, eq=False, weakref_slot=True)
class _CudaRecording:
    graph: torch.cuda.CUDAGraph
    results: list[Any]

    def replay(self) -> None:
        self.graph.replay()


@dataclass(frozen=True, slots=True)
class _Captured:
    """A recording for one set of sizes and the addresses of what is not copied."""

    recording: Recording
    addresses: tuple[int, ...]
    inputs: tuple[tuple[int, torch.Tensor], ...]  # (port, the graph's own memory)
    returned: Mapping[int, int]  # result -> the port whose tensor it is
    shown: Mapping[int, tuple[int, Layout, int]]  # result -> the port it is a view of, and where
    shared: Mapping[int, torch.Tensor]  # result -> all of the memory that it and others look at


@dataclass(slots=True)
class _State:
    calls: int = 0
    captures: int = 0
    refused: bool = False
    captured: _Captured | None = field(default=None)


class Graphs:
    """The CUDA graphs of an executable."""

    def __init__(
        self,
        program: Program,
        mode: Literal["auto", "on"],
        notes: Notes,
        device: CudaCapture,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._program, self._mode, self._notes, self._device = program, mode, notes, device
        self._make_room = make_room
        plan = program.plan
        self._fixed = tuple(
            i for i, p in enumerate(plan.ports) if p.spec is not None and (p.weight or p.mutated)
        )
        self._copied = tuple(
            i
            for i, p in enumerate(plan.ports)
            if p.spec is not None and not (p.weight or p.mutated)
        )
        self._states: OrderedDict[tuple[int, ...], _State] = OrderedDict()
        self._refusal = refusal(program)
        if self._refusal is not None and mode == "on":
            notes.add(f"no CUDA graph: {self._refusal}")

    def clear(self) -> None:
        """Forget every recording."""
        self._states.clear()

    def call(
        self, key: tuple[int, ...], sizes: Mapping[str, int], args: Sequence[Any], run: Run
    ) -> list[Any] | None:
        """The results by replaying; None where this call has to run step by step.

        `run` runs the plan on a list of arguments in memory of its own, for capturing.
        """
        if self._refusal is not None or self._device.capturing():
            return None
        state = self._state(key, sizes)
        state.calls += 1
        if state.refused or state.calls == 1:
            return None
        addresses = tuple(args[port].data_ptr() for port in self._fixed)
        with self._device.lock:
            self._device.follow_stream()
            if state.captured is None or state.captured.addresses != addresses:
                state.captured = None  # its memory may serve the new capture
                state.captured = self._capture(state, args, addresses, run)
            if state.captured is None:
                return None
            return self._replay(state.captured, args)

    def _state(self, key: tuple[int, ...], sizes: Mapping[str, int]) -> _State:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State()
            if self._mode == "auto" and (why := why_not_replay(self._program.plan, sizes)):
                state.refused = True
                self._notes.add(f"no CUDA graph: {why}")
            while len(self._states) > _MOST_GRAPHS:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return state

    def _capture(
        self, state: _State, args: Sequence[Any], addresses: tuple[int, ...], run: Run
    ) -> _Captured | None:
        state.captures += 1
        if state.captures > _MOST_CAPTURES:
            state.refused = True
            self._notes.add("no CUDA graph: weights or mutated arguments keep changing address")
            return None
        given = list(args)
        # Outside inference mode: an inference tensor could not be written by later calls.
        with torch.inference_mode(False), torch.no_grad():
            for port in self._copied:
                given[port] = _empty(args[port])
            inputs = tuple((port, given[port]) for port in self._copied)
            # The arena of the first call will hardly be needed again, now that the graph has one.
            self._make_room()
            try:
                recording = self._device.capture(lambda: run(list(given)))
            except (RuntimeError, KernelError) as error:
                # A launch is what fails where an earlier call has spoilt the capture.
                state.refused = True
                self._notes.add(f"no CUDA graph: capturing failed: {_first_line(error)}")
                return None
        ports = {id(given[port]): port for port in (*self._copied, *self._fixed)}
        results = recording.results
        returned = {i: ports[id(r)] for i, r in enumerate(results) if id(r) in ports}
        shown = {
            i: (port, Layout.of(results[i]), distance(results[i], given[port]))
            for i, port in self._program.shown.items()
        }
        for index in (*returned, *shown):
            results[index] = None  # the caller's tensors are not kept alive
        return _Captured(recording, addresses, inputs, returned, shown, self._shared(results))

    def _shared(self, results: Sequence[Any]) -> dict[int, torch.Tensor]:
        """The memory of the outputs that several results look at, as one tensor for each."""
        plan, found = self._program.plan, dict[int, list[int]]()
        for index, ref in enumerate(plan.outputs):
            root = None if ref.buffer is None else self._program.roots[ref.buffer]
            if root is not None and isinstance(plan.buffers[root].place, OutputPlace):
                found.setdefault(root, []).append(index)
        shared: dict[int, torch.Tensor] = {}
        for root, viewers in found.items():
            if len({plan.outputs[index].buffer for index in viewers}) > 1:
                whole = _whole(results[viewers[0]], dtype_named(plan.buffers[root].spec.dtype))
                shared.update((index, whole) for index in viewers)
        return shared

    def _replay(self, captured: _Captured, args: Sequence[Any]) -> list[Any]:
        if captured.inputs:
            torch._foreach_copy_(
                [_flat(own) for _, own in captured.inputs],
                [_flat(args[port]) for port, _ in captured.inputs],
            )
        captured.recording.replay()
        copies: dict[int, torch.Tensor] = {}
        outputs: list[Any] = []
        for index, result in enumerate(captured.recording.results):
            if index in captured.returned:
                outputs.append(args[captured.returned[index]])
            elif index in captured.shown:
                port, layout, start = captured.shown[index]
                outputs.append(layout.view(args[port], start))
            elif isinstance(result, torch.Tensor):
                if id(result) not in copies:
                    copies[id(result)] = _copied(result, captured.shared.get(index), copies)
                outputs.append(copies[id(result)])
            else:
                outputs.append(result)
        return outputs


def _first_line(error: BaseException) -> str:
    """What went wrong first: ending a spoilt capture raises once more."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def refusal(program: Program) -> str | None:
    """Why no call of a plan can be captured; None where it can."""
    plan = program.plan
    for step in plan.steps:
        if isinstance(step, RunRegion):
            return "the plan runs regions on the CPU"
        if isinstance(step, CallStep) and (why := _unsafe(plan, step)):
            return why
    return None


def _unsafe(plan: Plan, step: CallStep) -> str | None:
    name = step.call.target
    tags = {tag.name for tag in operator(name).tags}
    if "nondeterministic_seeded" in tags and not _drops_nothing(step.call):
        return f"{name} draws random numbers"
    # Indexing is tagged because of masks, whose result has as many elements as they have ones.
    masks = any(plan.buffers[id].spec.dtype in ("bool", "u8") for id in buffers_in(step.call))
    indexing = name.startswith(("aten.index.", "aten.index_put", "aten._index_put"))
    if indexing and masks:
        return f"{name} may index by a mask, which waits for the GPU"
    if not indexing and (unsafe := tags.intersection(_UNSAFE_TAGS)):
        return f"{name} is {', '.join(sorted(unsafe))}"
    return None


def _drops_nothing(call: AtenCall) -> bool:
    """Whether an operator is random for its dropout only (attention), and that is off."""
    for position, argument in enumerate(operator(call.target)._schema.arguments):
        if argument.name == "dropout_p":
            given = dict(call.kwargs).get("dropout_p")
            if position < len(call.args):
                given = call.args[position]
            return given is None or given in (ConstArg(0.0), ConstArg(0))
    return False


def why_not_replay(plan: Plan, sizes: Mapping[str, int]) -> str | None:
    """Why replaying does not pay for these sizes; None where it does.

    Starting a kernel takes a launch time, a torch operator several. Behind steps that compute much
    longer they do not show; from a quarter of the time on, the gaps between kernels do, and the
    wait for the first of them where a caller reads each result before the next call (decoding), or
    where the host is held up. Replaying saves most of that, and costs memory, and copying arguments
    and results: bandwidth, and an operator each.
    """
    target = TARGETS.get(plan.target)
    if target is None or len(plan.costs) != len(plan.steps):
        return "the plan does not say what its steps cost"
    busy = sum(
        max(
            evaluate(cost.bytes, sizes) / target.bandwidth,
            evaluate(cost.flops, sizes) / target.matrix_rate,
        )
        for cost in plan.costs
    )
    calls = sum(isinstance(step, CallStep) for step in plan.steps)
    launching = (len(plan.steps) - calls) * target.launch_seconds + calls * _CALL_SECONDS
    copied = [p.spec for p in plan.ports if p.spec is not None and not (p.weight or p.mutated)]
    copied += [plan.buffers[id].spec for id in _copied_out(plan)]
    copying = 2 * sum(_nbytes(spec, sizes) for spec in copied) / target.bandwidth
    copying += 3 * _CALL_SECONDS  # copying in, replaying, copying out
    saved = max(launching - busy, launching / 4)
    if launching > busy / 4 and saved > copying:
        return None
    return (
        f"{len(plan.steps)} launches take {launching * 1e6:.0f} us, the GPU is busy for "
        f"{busy * 1e6:.0f} us and copying would take {copying * 1e6:.0f} us"
    )


def _copied_out(plan: Plan) -> set[int]:
    """The buffers whose memory the results look at, less the caller's own."""
    roots = {root_of(plan, ref.buffer) for ref in plan.outputs if ref.buffer is not None}
    return {id for id in roots if not isinstance(plan.buffers[id].place, InputPlace)}


def _nbytes(spec: TensorSpec, sizes: Mapping[str, int]) -> int:
    count = math.prod(evaluate(dim, sizes) for dim in spec.shape)
    return count * dtype_named(spec.dtype).itemsize


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    """New memory of the same layout."""
    flat = _flat(tensor)
    made = torch.empty_strided(flat.shape, flat.stride(), dtype=tensor.dtype, device=tensor.device)
    return made if flat is tensor else made.as_strided(tensor.shape, tensor.stride())


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or all its memory as a vector where elements share memory (expanded ones)."""
    if torch._debug_has_internal_overlap(tensor) == 0:
        return tensor
    return tensor.as_strided((extent(tensor.shape, tensor.stride()),), (1,))


def _copied(
    result: torch.Tensor, whole: torch.Tensor | None, copies: dict[int, torch.Tensor]
) -> torch.Tensor:
    """A result in memory of the caller's; `whole` is the memory that it shares with others."""
    if whole is None:
        return _copy(result)
    if id(whole) not in copies:
        copies[id(whole)] = _copy(whole)
    # As for a plan that runs step by step: the caller may write to views.
    with torch.enable_grad():
        return Layout.of(result).view(copies[id(whole)], int(result.storage_offset()))


def _whole(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """All the memory that a tensor looks at, as a vector."""
    memory = tensor.untyped_storage()
    vector = torch.empty(0, dtype=dtype, device=tensor.device)
    return vector.set_(memory, 0, (memory.nbytes() // dtype.itemsize,), (1,))


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    made = _empty(tensor)
    _flat(made).copy_(_flat(tensor))
    return made
