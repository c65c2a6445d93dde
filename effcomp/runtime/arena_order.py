"""The order in which arena buffers get their places, found when a plan is made and kept with it.

Placing the largest first is good, not optimal: FLUX's arena is a tenth larger than its busiest
step. Trying other orders takes a quarter of a second, and depends on nothing but the plan and its
sizes, so no process that runs the plan has to do it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from effcomp.plan.schema import Plan
from effcomp.runtime.layouts import arena_alignment, layout_of, spans_of
from effcomp.runtime.memory import Span, busiest, largest_first, place_spans
from effcomp.runtime.program import analyze
from effcomp.runtime.transients import lighter

__all__ = ["search_order", "with_arena_order"]

_EFFORT = 30_000
"""Spans placed on the way to a smaller arena at most: a quarter of a second."""

_ENOUGH = 1.02  # times what the busiest step holds: no other order is tried
_MOST_LARGE = 64  # spans below this part of the whole are not worth moving


def with_arena_order(plan: Plan, sizes: Mapping[str, int], device: torch.device) -> Plan:
    """The plan, and its prologue, with the order that makes the arena of each the smallest found.

    That is the arena of a call on `device` with these sizes; where one is missing the order stays
    open. Raises PlanError for a plan that no runtime could load.
    """
    if plan.prologue is not None:
        plan = replace(plan, prologue=with_arena_order(plan.prologue, sizes, device))
    program = analyze(plan)
    if any(source.symbol not in sizes for source in plan.symbols):
        return plan
    layouts = [layout_of(buffer, sizes) for buffer in plan.buffers]
    lifetimes = lighter(program, layouts, device).lifetimes
    ids = list(lifetimes)
    order = search_order(spans_of(lifetimes, layouts), arena_alignment(device))
    return replace(plan, arena_order=tuple(ids[i] for i in order))


def search_order(spans: Sequence[Span], alignment: int, effort: int = _EFFORT) -> tuple[int, ...]:
    """Positions of the spans to place first so that `place_spans` needs less than without.

    Empty where nothing less was found. Each order tried is the best so far with one large span
    moved, until `effort` spans were placed; they are the same at every call.
    """
    default = order = largest_first(spans)
    least = total = place_spans(spans, alignment)[1]
    enough = _ENOUGH * busiest(spans, alignment)
    large = [i for i in order if spans[i].size * _MOST_LARGE >= total]
    chance = random.Random(0)
    for _ in range(effort // len(spans) if len(large) > 1 else 0):
        if total <= enough:
            break
        other = order.copy()
        other.remove(moved := chance.choice(large))
        other.insert(chance.randrange(len(large)), moved)
        found = place_spans(spans, alignment, other)[1]
        if found <= total:
            order, total = other, found
    if total == least:
        return ()
    differing = (at for at, (a, b) in enumerate(zip(order, default, strict=True)) if a != b)
    return tuple(order[: max(differing) + 1])
