"""Arena spans: those that live together never overlap, and they pack well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from effcomp.runtime.memory import Span, busiest, extent, place_spans

SPANS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 6)).map(
        lambda t: Span(t[0], t[1], t[1] + t[2])
    ),
    max_size=24,
)


@given(st.data(), SPANS, st.sampled_from([64, 512]))
def test_living_spans_do_not_overlap_in_any_order(
    data: st.DataObject, spans: list[Span], alignment: int
) -> None:
    order = data.draw(st.permutations(range(len(spans))))
    first = order[: data.draw(st.integers(0, len(spans)))]
    offsets, total = place_spans(spans, alignment, first)
    live = [0] * 32
    for i, (a, x) in enumerate(zip(spans, offsets, strict=True)):
        assert x % alignment == 0
        assert x + a.size <= total
        for step in range(a.first, a.last + 1):
            live[step] += -(-a.size // alignment) * alignment
        for b, y in list(zip(spans, offsets, strict=True))[:i]:
            together = a.first <= b.last and b.first <= a.last
            apart = x + a.size <= y or y + b.size <= x
            assert not together or apart or 0 in (a.size, b.size)
    assert total >= max(live) == busiest(spans, alignment)
    assert total <= sum(-(-s.size // alignment) * alignment for s in spans)


def test_dead_memory_is_used_again() -> None:
    chain = [Span(1000, i, i + 1) for i in range(10)]
    assert place_spans(chain, 512)[1] == 2048


def test_extent_counts_to_the_last_element() -> None:
    assert extent((2, 3), (3, 1)) == 6
    assert extent((2, 3), (10, 2)) == 15
    assert extent((0, 3), (3, 1)) == 0
    assert extent((), ()) == 1
