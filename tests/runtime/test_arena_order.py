"""The order of the arena: found once, kept with the plan, and never worse than none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcomp.errors import PlanError
from effcomp.plan.schema import ArenaPlace, Expr, InputPlace, Plan
from effcomp.runtime import load
from effcomp.runtime.arena_order import search_order, with_arena_order
from effcomp.runtime.layouts import arena_layout, layout_of
from effcomp.runtime.memory import Span, place_spans
from effcomp.runtime.occupancy import occupancy
from effcomp.runtime.program import analyze
from effcomp.runtime.transients import lighter, memory_needed
from tests.runtime.plans import buffer, call, plan, port
from tests.runtime.test_memory import SPANS
from tests.runtime.test_transients import CUDA, sandwich

CPU = torch.device("cpu")
UNIT = 16  # floats in an aligned span

# A block's 5 is free to lie where the next block's 1 is not; greed puts every 5 at the bottom.
CHAIN = [(5, 1, 2), (1, 0, 3), (5, 4, 5), (1, 3, 6), (5, 7, 8), (1, 6, 9)]


def chain(large: Expr = 5 * UNIT, small: Expr = UNIT) -> Plan:
    """Buffers of the chain, in a plan whose steps all do the same to something else."""
    sizes: list[Expr] = [large if size == 5 else small for size, _, _ in CHAIN]
    places = [ArenaPlace(first, last) for _, first, last in CHAIN]
    names = {name for name in (large, small) if isinstance(name, str)}
    return plan(
        ports=[port("x", 4), port("y", *sorted(names))],
        symbols=[(name, 1, dim) for dim, name in enumerate(sorted(names))],
        buffers=[
            buffer(InputPlace(0), 4),
            *(buffer(place, size) for place, size in zip(places, sizes, strict=True)),
            buffer(ArenaPlace(0, 9), 4),
        ],
        steps=[call("neg.default", 0, to=[7], out="out") for _ in range(10)],
        outputs=[7],
    )


def arena(given: Plan, sizes: dict[str, int]) -> int:
    layouts = [layout_of(b, sizes) for b in given.buffers]
    return arena_layout(analyze(given), layouts, CPU)[1]


def test_a_search_finds_what_greed_misses() -> None:
    spans = [Span(512 * size, first, last) for size, first, last in CHAIN]
    assert place_spans(spans, 512)[1] == 512 * 7
    order = search_order(spans, 512)
    assert place_spans(spans, 512, order)[1] == 512 * 6
    assert search_order(spans, 512) == order, "equal at every call"
    assert search_order(spans[:2], 512) == (), "greed does as well"


@given(SPANS, st.sampled_from([64, 512]))
def test_an_order_is_kept_only_where_it_takes_less(spans: list[Span], alignment: int) -> None:
    order = search_order(spans, alignment, effort=500)
    assert len({*order}) == len(order) <= len(spans)
    least, found = (place_spans(spans, alignment, first)[1] for first in ((), order))
    assert found < least if order else found == least


def test_a_plan_keeps_its_order() -> None:
    bare = chain()
    kept = with_arena_order(bare, {}, CPU)
    assert kept.arena_order
    assert replace(kept, arena_order=()) == bare
    saved = 4 * UNIT  # bytes of one of seven units
    assert arena(bare, {}) - arena(kept, {}) == saved
    for device in (CPU, CUDA):  # an order found for one device is right for all
        assert occupancy(kept, {}, device).arena_bytes < occupancy(bare, {}, device).arena_bytes
    needs = [memory_needed(analyze(p), {}, CPU)[0] for p in (bare, kept)]
    assert needs[0] - needs[1] == saved
    runs = [load(p, CPU) for p in (bare, kept)]
    outputs = [run([torch.ones(4), torch.ones(())])[0] for run in runs]
    assert torch.equal(outputs[0], outputs[1])
    assert runs[0].peak_bytes - runs[1].peak_bytes == saved


def test_a_prologue_keeps_its_own() -> None:
    prologue = replace(chain(), name="prologue")
    whole = replace(sandwich(4), prologue=prologue, prologue_ports=(0, 0))
    made = with_arena_order(whole, {}, CPU)
    assert made.arena_order == ()
    assert made.prologue == with_arena_order(prologue, {}, CPU) != prologue


def test_an_order_is_of_the_sizes_that_are_known() -> None:
    named = chain("s0", "s1")
    known = {"s0": 5 * UNIT, "s1": UNIT}
    kept = with_arena_order(named, known, CPU)
    assert kept.arena_order == with_arena_order(chain(), {}, CPU).arena_order
    assert with_arena_order(named, {"s0": 5 * UNIT}, CPU) == named, "one is not known"
    assert arena(kept, known) < arena(named, known)
    twice = {name: 2 * size for name, size in known.items()}
    assert arena(kept, twice) < arena(named, twice)
    for small in range(1, 12):  # never more than without an order
        other = {"s0": 5 * UNIT, "s1": small * UNIT}
        assert arena(kept, other) <= arena(named, other)


def test_what_leaves_the_arena_leaves_the_order() -> None:
    ordered = replace(sandwich(65536), arena_order=(2, 1))
    layouts = [layout_of(b, {}) for b in ordered.buffers]
    made = lighter(analyze(ordered), layouts, CUDA)
    assert made.plan.arena_order == (2,)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((1, 99), "has buffer 99, which is not there"),
        ((-1,), "has buffer -1, which is not there"),
        ((0,), r"has buffer 0, which is not in the arena"),
        ((2, 1, 2), r"has buffer 2 twice"),
    ],
)
def test_an_order_of_other_buffers_is_refused(order: tuple[int, ...], message: str) -> None:
    with pytest.raises(PlanError, match=f"the arena order of test {message}"):
        load(replace(chain(), arena_order=order), CPU)
