"""A program bound to sizes and an arena: a line of closures that run over slots.

Slots hold the plan's tensors by buffer id. What is the same at every call (views of the arena,
results of the prologue, grids, operators, sizes) is worked out here, once for a set of sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from effcomp.errors import PlanError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import (
    ArenaPlace,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    ConstArg,
    InputPlace,
    Launch,
    OutputPlace,
    RunRegion,
    SizeArg,
    ViewPlace,
)
from effcomp.runtime.calls import Slots, operator, out_operator, prepare, results_of
from effcomp.runtime.layouts import UNSTATED, Layout, arena_layout, fresh_bytes, layout_of
from effcomp.runtime.notes import Notes
from effcomp.runtime.ports import ALIGNMENT
from effcomp.runtime.profiling import Stopwatch
from effcomp.runtime.program import Program
from effcomp.runtime.transients import lighter
from effcomp.runtime.workspace import Workspace

__all__ = [
    "Action",
    "Bound",
    "KernelRunner",
    "Machine",
    "RegionRunner",
    "bind",
]

Action = Callable[[Slots], None]


class KernelRunner(Protocol):
    """A loaded Triton kernel."""

    def bind(
        self, args: Sequence[Any], late: Sequence[tuple[int, int]], grid: tuple[int, int, int]
    ) -> Action:
        """A launch; `late` are (position, slot) of the tensors that are only known at a call."""
        ...


class RegionRunner(Protocol):
    """The regions of a plan: `regions.Regions`."""

    compile_seconds: float

    def prepare(self, sizes: Mapping[str, int], layouts: Sequence["Layout"]) -> None:
        """Compile what is needed for these sizes; `layouts` are of the plan's buffers."""
        ...

    def bind(
        self,
        step: RunRegion,
        sizes: Mapping[str, int],
        layouts: Sequence["Layout"],
        adoptable: Sequence[bool],
    ) -> Action:
        """A run of a region; `layouts` and `adoptable` are of the step's outputs."""
        ...


@dataclass(slots=True)
class Machine:
    """What a plan runs on: the device, its loaded kernels, and where remarks go."""

    device: torch.device
    kernels: Mapping[int, KernelRunner]  # by step
    regions: RegionRunner
    notes: Notes


@dataclass(slots=True)
class Bound:
    """A program for one set of sizes and one arena.

    `steps` are the places of the plan's steps among the actions; the others make and drop tensors.
    """

    program: Program
    sizes: Mapping[str, int]
    base: torch.Tensor
    template: Slots
    inputs: tuple[tuple[int, int], ...]  # (buffer, port)
    actions: tuple[Action, ...]
    steps: tuple[int, ...]
    arena_bytes: int
    peak_bytes: int

    def run(self, args: list[Any]) -> list[Any]:
        """Run the steps on checked arguments, emptying their list. Returns the outputs."""
        slots = self._enter(args)
        for action in self.actions:
            action(slots)
        return self._leave(slots)

    def run_timed(self, args: list[Any], watch: Stopwatch) -> list[Any]:
        """`run`, with a mark before and after each step."""
        slots = self._enter(args)
        timed = frozenset(self.steps)
        for index, action in enumerate(self.actions):
            if index in timed:
                watch.mark()
            action(slots)
            if index in timed:
                watch.mark()
        return self._leave(slots)

    def _enter(self, args: list[Any]) -> Slots:
        slots = self.template.copy()
        for buffer, port in self.inputs:
            slots[buffer] = args[port]
        args.clear()
        return slots

    def _leave(self, slots: Slots) -> list[Any]:
        return [self._output(ref.buffer, ref.size, slots) for ref in self.program.plan.outputs]

    def _output(self, buffer: int | None, size: Any, slots: Slots) -> Any:
        if buffer is None:
            return None if size is None else evaluate(size, self.sizes)
        tensor = slots[buffer]
        if buffer in self.program.cloned:
            return tensor.clone()
        if buffer in self.program.maybe_cloned:
            shared = tensor.untyped_storage().data_ptr() == self.base.untyped_storage().data_ptr()
            return tensor.clone() if shared else tensor
        return tensor


def bind(
    program: Program,
    machine: Machine,
    sizes: Mapping[str, int],
    constants: Sequence[torch.Tensor],
    workspace: Workspace,
) -> Bound:
    """Bind `program` to `sizes`; the workspace grows to what the arena needs."""
    layouts = [layout_of(buffer, sizes) for buffer in program.plan.buffers]
    program = lighter(program, layouts, machine.device)
    plan = program.plan
    offsets, total = arena_layout(program, layouts, machine.device)
    machine.regions.prepare(sizes, layouts)
    workspace.reserve(total)
    template: Slots = [None] * len(plan.buffers)
    for id in range(len(plan.buffers)):
        _place(id, program, layouts, sizes, constants, offsets, workspace.base, template)
    actions, steps = _Binder(program, machine, sizes, layouts, template).actions()
    return Bound(
        program=program,
        sizes=sizes,
        base=workspace.base,
        template=template,
        inputs=tuple(
            (id, buffer.place.index)
            for id, buffer in enumerate(plan.buffers)
            if isinstance(buffer.place, InputPlace)
        ),
        actions=actions,
        steps=steps,
        arena_bytes=total,
        peak_bytes=total + max(fresh_bytes(program, layouts)),
    )


def _place(
    id: int,
    program: Program,
    layouts: Sequence[Layout],
    sizes: Mapping[str, int],
    constants: Sequence[torch.Tensor],
    offsets: Mapping[int, int],
    base: torch.Tensor,
    template: Slots,
) -> torch.Tensor | None:
    """Make the tensor of a buffer whose memory is the same at every call."""
    if template[id] is not None or not program.is_static(id):
        return template[id]
    layout = layouts[id]
    match program.plan.buffers[id].place:
        case ArenaPlace():
            typed = base.view(layout.dtype)
            made = layout.view(typed, offsets[id] // layout.dtype.itemsize)
        case ConstantPlace(index=index):
            made = constants[index]
            if made.shape != layout.shape or made.dtype is not layout.dtype:
                raise PlanError(
                    f"the prologue of {program.plan.name} made {made.dtype} {list(made.shape)} for "
                    f"a constant of {layout.dtype} {list(layout.shape)}"
                )
            made = made if layout.fits(made) else layout.empty(made.device).copy_(made)
        case ViewPlace(of=of, offset=offset):
            parent = _place(of, program, layouts, sizes, constants, offsets, base, template)
            assert parent is not None, "a view of static memory has static memory under it"
            made = layout.view(parent, evaluate(offset, sizes))
        case place:
            raise AssertionError(f"{place} is not static")
    template[id] = made
    return made


class _Binder:
    """Turns steps into actions."""

    def __init__(
        self,
        program: Program,
        machine: Machine,
        sizes: Mapping[str, int],
        layouts: Sequence[Layout],
        template: Slots,
    ) -> None:
        self.program, self.machine, self.sizes = program, machine, sizes
        self.layouts, self.template = layouts, template
        self.plan = program.plan

    def actions(self) -> tuple[tuple[Action, ...], tuple[int, ...]]:
        """The steps in order, with what has to be made before and can be dropped after each.

        Beside the actions, the places of the steps among them.
        """
        out: list[Action] = []
        places: list[int] = []
        for index, step in enumerate(self.plan.steps):
            made = self.program.create[index]
            adoptable = frozenset[int]()
            if isinstance(step, RunRegion):
                # What a region fills first it may as well bring along.
                adoptable = self._adoptable(step, made)
            out += [self._create(id) for id in made if id not in adoptable]
            places.append(len(out))
            out.append(self._step(index, step, adoptable))
            if dropped := self.program.drop[index]:
                out.append(_drop(dropped))
        return (*out, *map(self._create_result, self.program.create[-1])), tuple(places)

    def _adoptable(self, step: RunRegion, made: Sequence[int]) -> frozenset[int]:
        """Outputs of a region that nothing has touched before, directly or through a view."""
        places = {id: self.plan.buffers[id].place for id in (*made, *step.outputs)}
        viewed = {place.of for place in places.values() if isinstance(place, ViewPlace)}
        return frozenset(
            id
            for id in step.outputs
            if isinstance(places[id], CallPlace)
            or (isinstance(places[id], OutputPlace) and id in made and id not in viewed)
        )

    def _create_result(self, id: int) -> Action:
        """As `_create`, after the last step: what is shown there of an output is the caller's."""
        create, buffers = self._create(id), self.plan.buffers
        is_view = isinstance(buffers[id].place, ViewPlace)
        if not (is_view and isinstance(buffers[self.program.roots[id]].place, OutputPlace)):
            return create

        def create_as_caller(slots: Slots) -> None:
            # autograd lets nobody write to a view that was made without gradients.
            with torch.enable_grad():
                create(slots)

        return create_as_caller

    def _create(self, id: int) -> Action:
        layout, device = self.layouts[id], self.machine.device
        match self.plan.buffers[id].place:
            case ViewPlace(of=of, offset=offset):
                start = evaluate(offset, self.sizes)

                def view(slots: Slots) -> None:
                    slots[id] = layout.view(slots[of], start)

                return view
            case _:

                def allocate(slots: Slots) -> None:
                    slots[id] = torch.empty_strided(
                        layout.shape, layout.strides, dtype=layout.dtype, device=device
                    )

                return allocate

    def _step(
        self, index: int, step: Launch | RunRegion | CallStep, adoptable: frozenset[int]
    ) -> Action:
        match step:
            case Launch():
                return self._launch(index, step)
            case RunRegion():
                layouts = [self.layouts[id] for id in step.outputs]
                flags = [id in adoptable for id in step.outputs]
                return self.machine.regions.bind(step, self.sizes, layouts, flags)
            case CallStep(out=""):
                return self._call(step)
            case CallStep():
                target, names = out_operator(step)
                extra = tuple(zip(names, self._ids(step), strict=True))
                run = prepare(
                    step.call, target, self.sizes, self.machine.device, self.template, extra
                )

                def call_out(slots: Slots) -> None:
                    run(slots)

                return call_out

    def _ids(self, step: CallStep) -> tuple[int, ...]:
        ids = tuple(id for id in step.call.results if id is not None)
        if len(ids) != len(step.call.results):
            raise PlanError(f"{step.call.target} cannot fill a result that is dropped")
        return ids

    def _launch(self, index: int, step: Launch) -> Action:
        args: list[Any] = []
        late: list[tuple[int, int]] = []
        for position, arg in enumerate(step.args):
            match arg:
                case BufferArg(id=id):
                    args.append(self.template[id])
                    if self.template[id] is None:
                        late.append((position, id))
                case SizeArg(expr=expr):
                    args.append(evaluate(expr, self.sizes))
                case ConstArg(value=value):
                    args.append(value)
                case _:
                    raise PlanError(f"a kernel cannot take {arg}")
        x, y, z = (evaluate(extent, self.sizes) for extent in step.grid)
        if x * y * z == 0:
            return lambda slots: None
        return self.machine.kernels[index].bind(args, late, (x, y, z))

    def _call(self, step: CallStep) -> Action:
        call = step.call
        target = operator(call.target)
        run = prepare(call, target, self.sizes, self.machine.device, self.template)
        stores = [
            self._store(id, position, call.target)
            for position, id in enumerate(call.results)
            if id is not None
        ]
        if not stores:

            def effect(slots: Slots) -> None:
                run(slots)

            return effect
        count = max(i for i, id in enumerate(call.results) if id is not None) + 1

        def call_step(slots: Slots) -> None:
            returned = results_of(run(slots), count, call.target)
            for store in stores:
                store(slots, returned)

        return call_step

    def _store(self, id: int, position: int, name: str) -> Callable[[Slots, Sequence[Any]], None]:
        """Put result `position` of an operator into its buffer."""
        if self.layouts[id] is UNSTATED:

            def keep(slots: Slots, returned: Sequence[Any]) -> None:
                slots[id] = returned[position]

            return keep
        layout, notes = self.layouts[id], self.machine.notes
        shape, strides, dtype = layout.shape, layout.strides, layout.dtype
        placed = not isinstance(self.plan.buffers[id].place, CallPlace)
        aligned = id in self.program.launched and self.machine.device.type != "cpu"

        def store(slots: Slots, returned: Sequence[Any]) -> None:
            tensor = returned[position]
            if tensor.shape != shape or tensor.dtype is not dtype:
                raise PlanError(
                    f"{name} returned {tensor.dtype} {list(tensor.shape)}, the plan states "
                    f"{dtype} {list(shape)}"
                )
            if placed:
                if tensor is not slots[id] and not _is_same(tensor, slots[id]):
                    slots[id].copy_(tensor)
                return
            if tensor.stride() != strides and not layout.fits(tensor):
                notes.add(f"{name} returned strides other than the plan states: copied")
                tensor = layout.empty(tensor.device).copy_(tensor)
            elif aligned and tensor.data_ptr() % ALIGNMENT:
                notes.add(f"{name} returned memory not aligned to {ALIGNMENT} bytes: copied")
                tensor = layout.empty(tensor.device).copy_(tensor)
            slots[id] = tensor

        return store


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether an operator returned the very memory that it should have filled."""
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride() and a.numel() > 0


def _drop(ids: Sequence[int]) -> Action:
    def drop(slots: Slots) -> None:
        for id in ids:
            slots[id] = None

    return drop
