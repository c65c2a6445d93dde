"""Where arena buffers lie: spans of one allocation, shared by buffers that never live together."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Span", "extent", "place_spans"]


_ENOUGH = 1.02  # times what the busiest step holds: no other order is tried
_MOST_LARGE = 64  # spans below this part of the whole are not worth moving


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def extent(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last one that a strided tensor reaches, both included."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def place_spans(
    spans: Sequence[Span], alignment: int, effort: int = 0
) -> tuple[tuple[int, ...], int]:
    """Byte offsets for `spans`, and the bytes that they need together.

    Greedy: the largest span first, into the smallest gap that it fits between the spans that live
    at the same time (colouring an interval graph; optimal is NP-hard, this is close in practice).
    Where it is not, other orders are tried, each the best so far with one large span moved, until
    `effort` spans were placed; they are the same at every call.
    """
    order = sorted(range(len(spans)), key=lambda i: (-spans[i].size, spans[i].first))
    offsets, total = _place(spans, order, alignment)
    enough = _ENOUGH * _busiest(spans)
    large = [i for i in order if spans[i].size * _MOST_LARGE >= total]
    chance = random.Random(0)
    for _ in range(effort // len(spans) if len(large) > 1 else 0):
        if total <= enough:
            break
        other = order.copy()
        other.remove(moved := chance.choice(large))
        other.insert(chance.randrange(len(large)), moved)
        found = _place(spans, other, alignment)
        if found[1] <= total:
            order, (offsets, total) = other, found
    return offsets, total


def _busiest(spans: Sequence[Span]) -> int:
    """The most bytes that live at one step: no placement takes less."""
    change: dict[int, int] = {}
    for span in spans:
        change[span.first] = change.get(span.first, 0) + span.size
        change[span.last + 1] = change.get(span.last + 1, 0) - span.size
    return max(accumulate(change[step] for step in sorted(change)), default=0)


def _place(
    spans: Sequence[Span], order: Sequence[int], alignment: int
) -> tuple[tuple[int, ...], int]:
    offsets = [0] * len(spans)
    # Few spans live at one step, so looking at the steps of a lifetime beats looking at all spans.
    living: dict[int, list[int]] = {}
    total = 0
    for i in order:
        span = spans[i]
        size = -(-span.size // alignment) * alignment
        if size == 0:
            continue
        steps = range(span.first, span.last + 1)
        rivals = {j for step in steps for j in living.get(step, ())}
        taken = sorted((offsets[j], -(-spans[j].size // alignment) * alignment) for j in rivals)
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
