"""What memory a call of a plan holds, and when: the plan's buffers over its steps, for reports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from effcomp.plan.schema import ArenaPlace, CallPlace, InputPlace, OutputPlace, Plan
from effcomp.runtime.layouts import arena_layout, fresh_bytes, layout_of
from effcomp.runtime.program import Program, analyze, touched
from effcomp.runtime.transients import lighter

__all__ = ["Holding", "Occupancy", "occupancy"]


@dataclass(frozen=True, slots=True)
class Holding:
    """Buffer `id` holds `bytes` from step `first` to step `last`, both included."""

    id: int
    place: Literal["arena", "output", "call"]  # a call's is freed before it ends
    bytes: int
    first: int
    last: int
    offset: int | None = None  # in the arena


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Bytes of one call; `peak_bytes` is all that it allocates beside its arguments."""

    peak_bytes: int
    arena_bytes: int
    weight_bytes: int
    input_bytes: int
    holdings: tuple[Holding, ...]


def occupancy(plan: Plan, sizes: Mapping[str, int], device: torch.device) -> Occupancy:
    """Lay out a plan's memory for these sizes as a call would on `device`. Allocates nothing."""
    layouts = [layout_of(buffer, sizes) for buffer in plan.buffers]
    program = lighter(analyze(plan), layouts, device)
    offsets, arena = arena_layout(program, layouts, device)
    sized = [layout.nbytes for layout in layouts]
    held = [
        *(Holding(i, "arena", sized[i], *program.lifetimes[i], offsets[i]) for i in offsets),
        *_fresh(program, sized),
    ]
    ports = {
        buffer.place.index: sized[id]
        for id, buffer in enumerate(plan.buffers)
        if isinstance(buffer.place, InputPlace)
    }
    weights = sum(n for port, n in ports.items() if plan.ports[port].weight)
    return Occupancy(
        peak_bytes=arena + max(fresh_bytes(program, layouts)),
        arena_bytes=arena,
        weight_bytes=weights,
        input_bytes=sum(ports.values()) - weights,
        holdings=tuple(sorted(held, key=lambda h: (h.first, h.id))),
    )


def _fresh(program: Program, sized: list[int]) -> Iterator[Holding]:
    """What is allocated call by call: outputs, transients, and what torch operators return."""
    plan, end = program.plan, len(program.plan.steps)
    dropped = {id: step for step, ids in enumerate(program.drop) for id in ids}
    first: dict[int, int] = {}
    for step, one in enumerate(plan.steps):
        for id in touched(one):
            first.setdefault(program.roots[id], step)
    for id, buffer in enumerate(plan.buffers):
        match buffer.place:
            case OutputPlace():
                place: Literal["call", "output"] = "call" if id in dropped else "output"
                yield Holding(id, place, sized[id], first.get(id, end), dropped.get(id, end))
            case CallPlace(last=last):
                yield Holding(id, "call", sized[id], first.get(id, 0), last)
            case ArenaPlace() | _:
                pass
