"""What passes report: rules that applied, and rules that refused with their reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MAX_LOCS = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for which a rule did not apply, at `count` places (`locs` names the first)."""

    rule: str
    reason: str
    count: int
    locs: tuple[str, ...]

    def __str__(self) -> str:
        where = f" at {', '.join(self.locs)}" if self.locs else ""
        more = f" and {self.count - len(self.locs)} more" if self.count > len(self.locs) > 0 else ""
        times = f" ({self.count} times)" if self.count > 1 and not self.locs else ""
        return f"{self.rule} refused{times}: {self.reason}{where}{more}"


@dataclass(slots=True)
class _Places:
    count: int = 0
    locs: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Log:
    """Collects what one pass did. Equal refusals are kept once, with their count."""

    _counts: dict[str, int] = field(default_factory=dict[str, int])
    _refused: dict[tuple[str, str], _Places] = field(
        default_factory=dict[tuple[str, str], _Places]
    )

    def applied(self, rule: str, loc: str = "", times: int = 1) -> None:
        """Note that `rule` rewrote something."""
        del loc  # taken for symmetry: callers have it at hand, counts do not keep it
        self._counts[rule] = self._counts.get(rule, 0) + times

    def refused(self, rule: str, loc: str, reason: str) -> None:
        """Note why `rule` left something that looked right alone."""
        places = self._refused.setdefault((rule, reason), _Places())
        places.count += 1
        if loc and loc not in places.locs and len(places.locs) < MAX_LOCS:
            places.locs.append(loc)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each rule applied."""
        return MappingProxyType(dict(self._counts))

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every distinct refusal, in the order met."""
        return tuple(
            Refusal(rule, reason, places.count, tuple(places.locs))
            for (rule, reason), places in self._refused.items()
        )
