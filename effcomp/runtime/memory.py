"""Where arena buffers lie: spans of one allocation, shared by buffers that never live together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Span", "busiest", "extent", "largest_first", "place_spans"]


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int

    def padded(self, alignment: int) -> int:
        """The bytes that it takes where others begin at multiples of `alignment`."""
        return -(-self.size // alignment) * alignment


def extent(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last one that a strided tensor reaches, both included."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def busiest(spans: Sequence[Span], alignment: int) -> int:
    """The most bytes that live at one step: no placement takes less."""
    change: dict[int, int] = {}
    for span in spans:
        size = span.padded(alignment)
        change[span.first] = change.get(span.first, 0) + size
        change[span.last + 1] = change.get(span.last + 1, 0) - size
    return max(accumulate(change[step] for step in sorted(change)), default=0)


def largest_first(spans: Sequence[Span]) -> list[int]:
    """The positions of `spans` by their size, of equal ones those that live first."""
    return sorted(range(len(spans)), key=lambda i: (-spans[i].size, spans[i].first))


def place_spans(
    spans: Sequence[Span], alignment: int, first: Sequence[int] = ()
) -> tuple[tuple[int, ...], int]:
    """Byte offsets for `spans`, and the bytes that they need together.

    Greedy: one span after the other into the smallest gap that it fits between the spans that live
    at the same time. The spans at positions `first` are placed first, in this order, then the
    others, the largest first. Any order gives places that are right; the smallest total is
    NP-hard to find, largest first comes close in practice.
    """
    chosen = frozenset(first)
    order = (*first, *(i for i in largest_first(spans) if i not in chosen))
    offsets = [0] * len(spans)
    # Few spans live at one step, so looking at the steps of a lifetime beats looking at all spans.
    living: dict[int, list[int]] = {}
    total = 0
    for i in order:
        span = spans[i]
        size = span.padded(alignment)
        if size == 0:
            continue
        steps = range(span.first, span.last + 1)
        rivals = {j for step in steps for j in living.get(step, ())}
        taken = sorted((offsets[j], spans[j].padded(alignment)) for j in rivals)
        offsets[i] = _best_fit(taken, size)
        total = max(total, offsets[i] + size)
        for step in steps:
            living.setdefault(step, []).append(i)
    return tuple(offsets), total


def _best_fit(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The offset of the smallest gap of at least `size` bytes between `taken` (sorted) spans."""
    best, best_gap, end = -1, 0, 0
    for offset, length in taken:
        gap = offset - end
        if gap >= size and (best < 0 or gap < best_gap):
            best, best_gap = end, gap
        end = max(end, offset + length)
    return end if best < 0 else best
