"""Repeated blocks of a program: a model's layers, found by what they do, not by their names."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

LEAST_REPEATS = 3
# For stretches in which no module begins: three equal projections are no block, many equal are.
LEAST_PERIOD = 4
MANY_REPEATS = 7
LONGEST_PERIOD = 400


@dataclass(frozen=True, slots=True)
class Repeat:
    """Items `start .. start + period * count`: `count` equal stretches of `period` items."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.count


def find_repeats(items: Sequence[Hashable], starts: Sequence[bool]) -> tuple[Repeat, ...]:
    """The repeats that save most, none overlapping another, in order.

    `starts` marks the items at which a stretch had better begin: a module's first.
    """
    numbers: dict[Hashable, int] = {}
    ids = [numbers.setdefault(item, len(numbers)) for item in items]
    candidates = sorted(
        _candidates(ids, starts), key=lambda r: (-(r.count - 1) * r.period, r.period, r.start)
    )
    taken: list[Repeat] = []
    for one in candidates:
        if all(one.end <= other.start or other.end <= one.start for other in taken):
            taken.append(one)
    return tuple(sorted(taken, key=lambda r: r.start))


def _candidates(ids: Sequence[int], starts: Sequence[bool]) -> Iterator[Repeat]:
    longest = min(len(ids) // LEAST_REPEATS, LONGEST_PERIOD)
    for period in range(1, longest + 1):
        equal = 0
        for i in range(len(ids) - period + 1):
            if i + period < len(ids) and ids[i] == ids[i + period]:
                equal += 1
                continue
            count = equal // period + 1
            if count >= LEAST_REPEATS:
                found = _aligned(i - equal, equal % period, period, count, starts)
                long = period >= LEAST_PERIOD or count >= MANY_REPEATS
                if long or _each_starts(found, starts):
                    yield found
            equal = 0


def _aligned(first: int, slack: int, period: int, count: int, starts: Sequence[bool]) -> Repeat:
    """The repeat moved by at most `slack` to an item where a stretch had better begin."""
    shift = next((s for s in range(slack + 1) if starts[first + s]), 0)
    return Repeat(first + shift, period, count)


def _each_starts(repeat: Repeat, starts: Sequence[bool]) -> bool:
    """Whether something begins in every stretch."""
    firsts = range(repeat.start, repeat.end, repeat.period)
    return all(any(starts[first : first + repeat.period]) for first in firsts)
