"""A plan made ready to run: what can be known about its buffers before any size is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from effcomp.errors import PlanError
from effcomp.plan.schema import (
    ArenaPlace,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    InputPlace,
    Launch,
    OutputPlace,
    Place,
    Plan,
    RegionKernel,
    RunRegion,
    Step,
    TritonKernel,
    ViewPlace,
)
from effcomp.runtime.calls import buffers_in, may_alias

__all__ = ["Program", "analyze", "root_of"]


@dataclass(frozen=True, slots=True)
class Program:
    """A plan, and for each buffer whose memory it uses and how long.

    `lifetimes` are of arena buffers, longer than the plan says where a torch operator returned a
    view of one. `create` and `drop` list, step by step, the buffers to make before a step and to
    forget after it. `cloned` are outputs whose memory is not the caller's to keep; `shown` are
    outputs, by position, that are views of a port.
    """

    plan: Plan
    constants: int
    roots: tuple[int, ...]
    lifetimes: dict[int, tuple[int, int]]
    create: tuple[tuple[int, ...], ...]
    drop: tuple[tuple[int, ...], ...]
    cloned: frozenset[int]
    maybe_cloned: frozenset[int]
    launched: frozenset[int]  # roots of the buffers that kernels take pointers of
    shown: Mapping[int, int]  # position of an output -> the port

    @property
    def aligned(self) -> frozenset[int]:
        """The ports whose tensors kernels take the address of."""
        places = (self.plan.buffers[id].place for id in self.launched)
        return frozenset(place.index for place in places if isinstance(place, InputPlace))

    def is_static(self, buffer: int) -> bool:
        """Whether the buffer's memory is the same at every call."""
        place = self.plan.buffers[self.roots[buffer]].place
        return isinstance(place, ArenaPlace | ConstantPlace)


def analyze(plan: Plan, constants: int = 0) -> Program:
    """Check a plan's references and work out its lifetimes. Raises PlanError.

    The last `constants` ports are filled by whoever keeps the program, not by its callers.
    """
    _check(plan)
    _check_order(plan)
    roots = tuple(root_of(plan, id) for id in range(len(plan.buffers)))
    owners = _owners(plan, roots)
    lifetimes = {
        id: (buffer.place.first, buffer.place.last)
        for id, buffer in enumerate(plan.buffers)
        if isinstance(buffer.place, ArenaPlace)
    }
    last_use: dict[int, int] = {}
    launched: set[int] = set()
    for index, step in enumerate(plan.steps):
        for id in touched(step):
            last_use.update((used, index) for used in (id, *_bases(plan, id)))
            for owner in owners[id]:
                first, last = lifetimes[owner]
                if roots[id] == owner and not first <= index <= last:
                    raise PlanError(
                        f"step {index} of {plan.name} uses {_name(plan, id)}, "
                        f"which lives from step {first} to {last}"
                    )
                lifetimes[owner] = (first, max(last, index))
        if isinstance(step, Launch):
            launched.update(roots[id] for id in touched(step))
    kept = {ref.buffer for ref in plan.outputs if ref.buffer is not None}
    for id in kept:
        for owner in owners[id]:
            lifetimes[owner] = (lifetimes[owner][0], len(plan.steps))
    own = len(plan.ports) - constants
    cloned = {id for id in kept if not _is_callers(plan.buffers[roots[id]].place, own)}
    return Program(
        plan=plan,
        constants=constants,
        roots=roots,
        lifetimes=lifetimes,
        create=_creations(plan, roots),
        drop=_drops(plan, roots, last_use, kept),
        cloned=frozenset(cloned),
        maybe_cloned=frozenset(id for id in kept - cloned if owners[id]),
        launched=frozenset(launched),
        shown=dict(_shown(plan, roots, own)),
    )


def _is_callers(place: Place, own: int) -> bool:
    """Whether memory may go to the caller; ports from `own` on hold constants of the program."""
    if isinstance(place, InputPlace):
        return place.index < own
    return not isinstance(place, ArenaPlace | ConstantPlace)


def _shown(plan: Plan, roots: Sequence[int], own: int) -> Iterator[tuple[int, int]]:
    for position, ref in enumerate(plan.outputs):
        if ref.buffer is not None and isinstance(plan.buffers[ref.buffer].place, ViewPlace):
            place = plan.buffers[roots[ref.buffer]].place
            if isinstance(place, InputPlace) and place.index < own:
                yield position, place.index


def touched(step: Step) -> tuple[int, ...]:
    """Ids of the buffers that a step reads or writes."""
    match step:
        case Launch(args=args):
            return tuple(arg.id for arg in args if isinstance(arg, BufferArg))
        case RunRegion(inputs=inputs, outputs=outputs):
            return (*inputs, *outputs)
        case CallStep(call=call):
            return (*buffers_in(call), *(id for id in call.results if id is not None))


def root_of(plan: Plan, id: int) -> int:
    """The buffer whose memory a buffer uses: itself unless it is a view."""
    for _ in plan.buffers:
        place = plan.buffers[id].place
        if not isinstance(place, ViewPlace):
            return id
        id = place.of
    raise PlanError(f"{_name(plan, id)} of {plan.name} is a view of itself")


def _owners(plan: Plan, roots: Sequence[int]) -> list[frozenset[int]]:
    """For each buffer the arena buffers whose memory it may use."""
    owners: list[frozenset[int]] = [
        frozenset({root} if isinstance(plan.buffers[root].place, ArenaPlace) else ())
        for root in roots
    ]
    for step in plan.steps:
        if not isinstance(step, CallStep) or not may_alias(step.call.target):
            continue
        sources = frozenset[int]().union(*(owners[id] for id in buffers_in(step.call)))
        returned = {
            id
            for id in step.call.results
            if id is not None and isinstance(plan.buffers[id].place, CallPlace)
        }
        for id, root in enumerate(roots):
            if root in returned:
                owners[id] |= sources
    return owners


def _creations(plan: Plan, roots: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Outputs to allocate and views to make before each step; the last entry is for the outputs.

    Views of the arena and of constants are made once, when a plan is bound.
    """
    seen: set[int] = set()

    def needed(id: int) -> Iterator[int]:
        if id in seen:
            return
        seen.add(id)
        match plan.buffers[id].place:
            case ViewPlace(of=of):
                root = plan.buffers[roots[id]].place
                if not isinstance(root, ArenaPlace | ConstantPlace):
                    yield from needed(of)
                    yield id
            case OutputPlace():
                yield id
            case _:
                pass

    lists = [tuple(made for id in touched(step) for made in needed(id)) for step in plan.steps]
    ends = (ref.buffer for ref in plan.outputs if ref.buffer is not None)
    lists.append(tuple(made for id in ends for made in needed(id)))
    return tuple(lists)


def _drops(
    plan: Plan, roots: Sequence[int], last_use: dict[int, int], kept: set[int]
) -> tuple[tuple[int, ...], ...]:
    """Tensors to forget after each step, so that torch can free what nothing reads any more."""
    lists: list[list[int]] = [[] for _ in plan.steps]
    kept = kept | {of for id in kept for of in _bases(plan, id)}
    for id, step in last_use.items():
        place = plan.buffers[roots[id]].place
        if id not in kept and not isinstance(place, ArenaPlace | ConstantPlace):
            lists[step].append(id)
    return tuple(map(tuple, lists))


def _bases(plan: Plan, id: int) -> Iterator[int]:
    """The buffers that a view is a view of, directly or through others."""
    place = plan.buffers[id].place
    while isinstance(place, ViewPlace):
        yield place.of
        place = plan.buffers[place.of].place


def _check(plan: Plan) -> None:
    kernels = {kernel.digest: kernel for kernel in plan.kernels}
    count = len(plan.buffers)
    for id, buffer in enumerate(plan.buffers):
        match buffer.place:
            case InputPlace(index=index) if not 0 <= index < len(plan.ports):
                raise PlanError(f"{_name(plan, id)} reads port {index}, which is not there")
            case ViewPlace(of=of) if not 0 <= of < count:
                raise PlanError(f"{_name(plan, id)} is a view of buffer {of}, which is not there")
            case ConstantPlace() if plan.prologue is None:
                raise PlanError(f"{_name(plan, id)} is a prologue's result, there is no prologue")
            case _:
                pass
    for index, step in enumerate(plan.steps):
        for id in touched(step):
            if not 0 <= id < count:
                raise PlanError(f"step {index} of {plan.name} uses buffer {id} of {count}")
        match step:
            case Launch(kernel=digest):
                wanted: type = TritonKernel
            case RunRegion(kernel=digest):
                wanted = RegionKernel
            case _:
                continue
        if not isinstance(kernels.get(digest), wanted):
            raise PlanError(f"step {index} of {plan.name} runs kernel {digest!r}: none is there")
    for ref in plan.outputs:
        if ref.buffer is not None and not 0 <= ref.buffer < count:
            raise PlanError(f"{plan.name} returns buffer {ref.buffer} of {count}")


def _check_order(plan: Plan) -> None:
    seen: set[int] = set()
    for id in plan.arena_order:
        if not 0 <= id < len(plan.buffers):
            raise PlanError(f"the arena order of {plan.name} has buffer {id}, which is not there")
        if not isinstance(plan.buffers[id].place, ArenaPlace):
            raise PlanError(
                f"the arena order of {plan.name} has {_name(plan, id)}, which is not in the arena"
            )
        if id in seen:
            raise PlanError(f"the arena order of {plan.name} has {_name(plan, id)} twice")
        seen.add(id)


def _name(plan: Plan, id: int) -> str:
    return f"buffer {id} ({plan.buffers[id].name!r})" if plan.buffers[id].name else f"buffer {id}"
