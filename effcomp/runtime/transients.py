"""Which buffers of the arena are better allocated call by call.

An arena is as large as its busiest step for the whole of a call, and what torch's operators return
comes on top of it. Where they return much while the arena has room to spare, large buffers are
allocated when they are needed instead, from torch's allocator, which gives the operators the same
memory before and after.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from effcomp.plan.schema import ArenaPlace, CallPlace, OutputPlace
from effcomp.runtime.layouts import (
    Layout,
    arena_alignment,
    arena_layout,
    fresh_bytes,
    layout_of,
    spans_of,
)
from effcomp.runtime.memory import busiest, place_spans
from effcomp.runtime.program import Program, analyze

__all__ = ["lighter", "memory_needed"]

_LEAST_BYTES = 8 << 20
"""Buffers below this stay in the arena: an allocation a call costs the host microseconds."""

_MOST_TRIES = 6
_WORTH = 0.95
"""The part of the peak that has to be left for buffers to be moved out."""


def lighter(program: Program, layouts: Sequence[Layout], device: torch.device) -> Program:
    """The program with its largest buffers outside the arena, where that lowers the peak by much.

    On a CPU it stays as it is: memory that comes and goes is paged in at every call there.
    """
    if device.type == "cpu":
        return program
    held = fresh_bytes(program, layouts)
    alignment = arena_alignment(device)
    peak = place_spans(spans_of(program.lifetimes, layouts), alignment)[1] + max(held)
    within = _added(held, program.lifetimes, program.lifetimes, layouts)
    if max(within) > peak * _WORTH:
        return program  # whatever is moved
    kept = {program.roots[ref.buffer] for ref in program.plan.outputs if ref.buffer is not None}
    movable = {
        id: layouts[id].nbytes
        for id in program.lifetimes
        if layouts[id].nbytes >= _LEAST_BYTES and id not in kept
    }
    best, least = set[int](), peak * _WORTH
    for size in sorted(set(movable.values()), reverse=True)[:_MOST_TRIES]:
        moved = {id for id, nbytes in movable.items() if nbytes >= size}
        left = {id: life for id, life in program.lifetimes.items() if id not in moved}
        outside = max(_added(held, moved, program.lifetimes, layouts))
        spans = spans_of(left, layouts)
        if outside + busiest(spans, alignment) >= least:
            continue  # however they are placed
        if (tried := place_spans(spans, alignment)[1] + outside) < least:
            best, least = moved, tried
    return _without(program, best) if best else program


def memory_needed(
    program: Program, sizes: Mapping[str, int], device: torch.device
) -> tuple[int, list[tuple[str, int]]]:
    """Bytes that a call allocates beside its arguments, and its largest buffers by name."""
    buffers = program.plan.buffers
    layouts = [layout_of(buffer, sizes) for buffer in buffers]
    owned = [
        (buffer.name or f"buffer {id}", layouts[id].nbytes)
        for id, buffer in enumerate(buffers)
        if isinstance(buffer.place, ArenaPlace | OutputPlace | CallPlace)
    ]
    largest = sorted(owned, key=lambda item: -item[1])[:5]
    program = lighter(program, layouts, device)
    arena = arena_layout(program, layouts, device)[1]
    return arena + max(fresh_bytes(program, layouts)), largest


def _added(
    held: Sequence[int],
    ids: Iterable[int],
    lifetimes: Mapping[int, tuple[int, int]],
    layouts: Sequence[Layout],
) -> list[int]:
    """`held` with more buffers, each over its lifetime."""
    change = [0] * (len(held) + 1)
    for id in ids:
        first, last = lifetimes[id]
        change[first] += layouts[id].nbytes
        change[min(last, len(held) - 1) + 1] -= layouts[id].nbytes
    return [here + more for here, more in zip(held, accumulate(change), strict=False)]


def _without(program: Program, ids: set[int]) -> Program:
    """The program with these buffers allocated by each call."""
    plan = program.plan
    buffers = tuple(
        replace(buffer, place=OutputPlace()) if id in ids else buffer
        for id, buffer in enumerate(plan.buffers)
    )
    order = tuple(id for id in plan.arena_order if id not in ids)
    return analyze(replace(plan, buffers=buffers, arena_order=order), program.constants)
