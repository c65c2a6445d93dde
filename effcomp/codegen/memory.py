"""When buffers live: the steps from which on, and until which, their memory is needed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from effcomp.codegen.draft import buffers_in
from effcomp.plan.schema import (
    ArenaPlace,
    Buffer,
    CallPlace,
    CallStep,
    Launch,
    RunRegion,
    Step,
    ViewPlace,
)

Span = tuple[int, int]


def touched(step: Step) -> Iterator[int]:
    """The buffers that a step reads or writes."""
    match step:
        case Launch():
            yield from buffers_in(step.args)
        case RunRegion():
            yield from step.inputs
            yield from step.outputs
        case CallStep(call=call):
            yield from buffers_in(call.args)
            yield from buffers_in(arg for _, arg in call.kwargs)
            yield from (r for r in call.results if r is not None)


def with_lifetimes(
    buffers: Sequence[Buffer],
    steps: Sequence[Step],
    *,
    shares: Mapping[int, tuple[int, ...]],
    takeovers: Iterable[tuple[int, int, int]],
) -> tuple[Buffer, ...]:
    """Fill in first and last steps; let results take over the memory of operands that end there.

    A view needs the memory it shows, and what a call returned may lie in its operands' memory:
    using either keeps both alive.
    """
    placed = list(buffers)
    owners = _Owners(buffers, shares)
    spans = _spans(steps, owners)
    for step, result, operand in takeovers:
        root = _root(placed, operand)
        if not _fits(placed, root, operand, result) or spans[result][0] != step:
            continue
        others = set(touched(steps[step])) - {operand}
        if spans[root][1] == step and not any(root in owners.of(b) for b in others):
            owners.give(root, result)
            spans[root] = spans[root][0], spans.pop(result)[1]
            placed[result] = replace(placed[result], place=ViewPlace(root))
    for i, (first, last) in spans.items():
        if isinstance(placed[i].place, ArenaPlace):
            placed[i] = replace(placed[i], place=ArenaPlace(first, last))
        elif isinstance(placed[i].place, CallPlace):
            placed[i] = replace(placed[i], place=CallPlace(last))
    return tuple(placed)


def _spans(steps: Sequence[Step], owners: "_Owners") -> dict[int, Span]:
    spans: dict[int, Span] = {}
    for i, step in enumerate(steps):
        for buffer in touched(step):
            for owner in owners.of(buffer):
                spans[owner] = spans.get(owner, (i, i))[0], i
    return spans


class _Owners:
    """Which buffers' memory each buffer may lie in."""

    def __init__(self, buffers: Sequence[Buffer], shares: Mapping[int, tuple[int, ...]]) -> None:
        self.buffers = buffers
        self.shares = shares
        self.known: dict[int, tuple[int, ...]] = {}
        self.given: dict[int, int] = {}

    def of(self, buffer: int) -> tuple[int, ...]:
        if buffer not in self.known:
            root = _root(self.buffers, buffer)
            called = isinstance(self.buffers[root].place, CallPlace)
            above = (o for s in (self.shares.get(root, ()) if called else ()) for o in self.of(s))
            self.known[buffer] = tuple(dict.fromkeys((root, *above)))
        return tuple(self.given.get(o, o) for o in self.known[buffer])

    def give(self, root: int, result: int) -> None:
        """Let `result` lie in the memory of `root`."""
        self.given[result] = root


def _root(buffers: Sequence[Buffer], buffer: int) -> int:
    while isinstance(place := buffers[buffer].place, ViewPlace):
        buffer = place.of
    return buffer


def _fits(buffers: Sequence[Buffer], root: int, operand: int, result: int) -> bool:
    """Whether the operand fills memory of the arena that the result can be given as it is."""
    in_arena = isinstance(buffers[root].place, ArenaPlace)
    whole = buffers[root].spec == buffers[operand].spec == buffers[result].spec
    return in_arena and whole and isinstance(buffers[result].place, ArenaPlace)
