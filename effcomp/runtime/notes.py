"""Counted notes: what ran otherwise than the plan asked for."""

from collections import Counter

__all__ = ["Notes"]


class Notes:
    """Remarks and how often each was made; loading and calling fill one for an executable."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        self._counts[text] += 1

    def lines(self) -> tuple[str, ...]:
        """The remarks in the order they first came up, with their counts."""
        return tuple(text if n == 1 else f"{text} (x{n})" for text, n in self._counts.items())
