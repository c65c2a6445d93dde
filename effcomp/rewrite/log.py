"""What passes report: rules that applied, those that refused and why, those that came near."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from effcomp.ir import Op
from effcomp.rewrite.scope import WHOLE, Scope

MAX_LOCS = 4
MAX_MISSES = 4  # of one rule in one pass


def _at(locs: tuple[str, ...], count: int) -> str:
    where = f" at {', '.join(locs)}" if locs else ""
    more = f" and {count - len(locs)} more" if count > len(locs) > 0 else ""
    return where + more


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that rewrote something, at `count` places (`locs` names the first)."""

    rule: str
    count: int
    locs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule} x{self.count}{_at(self.locs, self.count)}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason for which a rule did not apply, at `count` places (`locs` names the first)."""

    rule: str
    reason: str
    count: int
    locs: tuple[str, ...]

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 and not self.locs else ""
        return f"{self.rule} refused{times}: {self.reason}{_at(self.locs, self.count)}"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """How far a rule's pattern reached at one place, and what stopped it there."""

    rule: str
    matched: int
    total: int
    reason: str
    loc: str

    def __str__(self) -> str:
        where = f" at {self.loc}" if self.loc else ""
        return f"{self.rule} matched {self.matched} of {self.total} ops{where}; {self.reason}"


@dataclass(slots=True)
class _Places:
    count: int = 0
    locs: list[str] = field(default_factory=list[str])

    def add(self, loc: str, times: int = 1) -> None:
        self.count += times
        if loc and loc not in self.locs and len(self.locs) < MAX_LOCS:
            self.locs.append(loc)


@dataclass(slots=True)
class Log:
    """Collects what one pass did, and says where it may: `sees`.

    Equal refusals are kept once, with their count. `trace` names the rules whose nearest misses
    are looked for (`FuseSilu` or `fuse-silu`); `tried` are the rules that were asked about.
    """

    scope: Scope = WHOLE
    trace: Collection[str] = ()
    asked: bool = False
    tried: set[str] = field(default_factory=set[str])
    _applied: dict[str, _Places] = field(default_factory=dict[str, _Places])
    _refused: dict[tuple[str, str], _Places] = field(default_factory=dict[tuple[str, str], _Places])
    _missed: list[NearMiss] = field(default_factory=list[NearMiss])

    def sees(self, op: Op) -> bool:
        """Whether a rewrite may start at this op: it stands in the modules the pass is limited to.

        Every pass asks this of the ops it would change; `apply_rules` asks it of a match's root.
        """
        self.asked = True
        return self.scope.holds(op)

    def traces(self, rule: str) -> bool:
        """Whether the nearest misses of this rule are wanted."""
        self.tried.add(rule)
        return plain_name(rule) in map(plain_name, self.trace)

    def applied(self, rule: str, loc: str = "", times: int = 1) -> None:
        """Note that `rule` rewrote something."""
        self._applied.setdefault(rule, _Places()).add(loc, times)

    def refused(self, rule: str, loc: str, reason: str) -> None:
        """Note why `rule` left something that looked right alone."""
        self._refused.setdefault((rule, reason), _Places()).add(loc)

    def missed(self, miss: NearMiss) -> None:
        """Note how near a traced rule came. The nearest few of each rule are kept."""
        self._missed.append(miss)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each rule applied."""
        return MappingProxyType({rule: places.count for rule, places in self._applied.items()})

    @property
    def matches(self) -> tuple[Applied, ...]:
        """Every rule that applied, how often and where."""
        return tuple(
            Applied(rule, places.count, tuple(places.locs))
            for rule, places in self._applied.items()
        )

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every distinct refusal, in the order met."""
        return tuple(
            Refusal(rule, reason, places.count, tuple(places.locs))
            for (rule, reason), places in self._refused.items()
        )

    @property
    def misses(self) -> tuple[NearMiss, ...]:
        """The nearest misses of the rules that were traced, nearest first."""
        kept: list[NearMiss] = []
        for rule in dict.fromkeys(miss.rule for miss in self._missed):
            mine = [m for m in dict.fromkeys(self._missed) if m.rule == rule]
            kept += sorted(mine, key=lambda m: m.total - m.matched)[:MAX_MISSES]
        return tuple(kept)


def plain_name(rule: str) -> str:
    """`FuseSilu` and `fuse-silu` are one name."""
    return rule.replace("-", "").lower()
