"""Merging ops into groups, greedily, where it is legal, makes no cycle and pays."""

from collections.abc import Callable, Sequence

from effcomp.ir import Graph
from effcomp.passes.grouping.facts import Facts, Region
from effcomp.passes.grouping.group_graph import GroupGraph
from effcomp.passes.grouping.outline import Outliner
from effcomp.passes.grouping.roofline import Kernel, microseconds
from effcomp.passes.grouping.rows import Unfit, UnfitOutput
from effcomp.rewrite import Log
from effcomp.target import Target

# What one kernel can hold before registers spill and compiling takes long.
MOST_OPS = 96
MOST_PARAMS = 24
MOST_OUTPUTS = 8
# How many steps a merge may look ahead.
MOST_AHEAD = 5

# How many siblings are tried, and how many nodes away they may stand.
NEAREST = 6
FARTHEST = 64

Fit = Callable[[Facts, Region], Kernel]


class Grower:
    """The groups of one pass while they grow.

    `fit` says what kernel a region would be, or raises Unfit; `rule` is the name refusals and
    merges are logged under.
    """

    def __init__(
        self, facts: Facts, fit: Fit, rule: str, target: Target, log: Log, lookahead: bool = False
    ) -> None:
        self.facts = facts
        self._groups = GroupGraph(self.facts.nodes(), self.facts.edges())
        self._members = {n: frozenset({n}) for n in facts.nodes()}
        self._owner = {n: n for n in self._members}
        self._fit, self._rule, self._target, self._log = fit, rule, target, log
        self._lookahead = lookahead
        self._kernels: dict[int, Kernel | Unfit] = {}
        self._refused: set[tuple[int, int, int, int]] = set()
        self._reasons: dict[tuple[int, int], str] = {}
        self.kinds: dict[int, str] = {}

    def is_alive(self, node: int) -> bool:
        return node in self._members

    def members(self, node: int) -> frozenset[int]:
        return self._members[node]

    def order(self) -> list[int]:
        return self._groups.order()

    def before(self, node: int) -> list[int]:
        return self._groups.before(node)

    def after(self, node: int) -> list[int]:
        return self._groups.after(node)

    def siblings(self, node: int) -> list[int]:
        """Nodes that read what `node` reads, the nearest first.

        Those far away in the program are left: their results would live long.
        """
        facts = self.facts
        operands = (v for i in self._members[node] for v in facts.ops[i].operands)
        reads = dict.fromkeys(b for v in operands for b in facts.bases(v))
        readers = dict.fromkeys(r for v in reads for r in sorted(facts.final_readers(v)) if r >= 0)
        near = dict.fromkeys(self._owner[r] for r in readers)
        near.pop(node, None)
        distance = self._groups.distance
        found = sorted(
            (n for n in near if distance(n, node) <= FARTHEST and self.seconds(n) is not None),
            key=lambda n: distance(n, node),
        )
        return found[:NEAREST]

    def kernel(self, node: int) -> Kernel | Unfit:
        """The kernel that a node would be by itself."""
        if (found := self._kernels.get(node)) is None:
            found = self._kernels[node] = self._try(self._members[node])
        return found

    def seconds(self, node: int) -> float | None:
        kernel = self.kernel(node)
        return None if isinstance(kernel, Unfit) else kernel.seconds(self._target)

    def grow(self, node: int, neighbours: Callable[[int], Sequence[int]]) -> None:
        """Merge neighbours into `node` until none fits any more."""
        grown = True
        while grown:
            grown = False
            for other in neighbours(node):
                if self.is_alive(other) and self.merge(node, other):
                    grown = True

    def merge(self, node: int, other: int) -> bool:
        """Make `other` part of `node`'s group where that is legal and pays.

        Where `other` is not legal by itself, it may be together with what reads it: half a rope's
        rotation has half the shape.
        """
        pair = (node, len(self._members[node]), other, len(self._members[other]))
        if pair in self._refused:
            return False
        unfit = self._merge_all(node, [other])
        if isinstance(unfit, UnfitOutput) and self._lookahead:
            readers = self._with_readers(node, other)
            if readers is not None and self._merge_all(node, readers) is None:
                return True
        if unfit is None:
            return True
        self._refused.add(pair)
        if str(unfit) and self._groups.are_neighbours(node, other):
            self._reasons[(min(self._members[node]), min(self._members[other]))] = str(unfit)
        return False

    def _merge_all(self, node: int, others: Sequence[int]) -> Unfit | None:
        """Merge all or none; the reason if none."""
        if not self._groups.may_merge({node, *others}):
            return Unfit("")
        merged = self._members[node].union(*(self._members[n] for n in others))
        kernel = self._check(node, others, merged)
        if isinstance(kernel, Unfit):
            return kernel
        for other in sorted(others, key=self._groups.rank):
            done = self._groups.merge(node, other)
            assert done, "a cycle after none was found"
            self._log.applied(self._rule, self._loc(other))
            self._owner.update(dict.fromkeys(self._members.pop(other), node))
            self._kernels.pop(other, None)
        self._members[node] = merged
        self._kernels[node] = kernel
        return None

    def _with_readers(self, node: int, other: int) -> list[int] | None:
        """`other` and what reads it, far enough that all fits `node`; None if it never does."""
        held = {other: None}
        for _ in range(MOST_AHEAD):
            outside = [
                self._owner[reader]
                for n in held
                for at in self._members[n]
                for result in self.facts.ops[at].results
                for reader in sorted(self.facts.final_readers(result))
                if reader >= 0 and self._owner[reader] not in (*held, node)
            ]
            if not outside or any(self.seconds(n) is None for n in outside):
                return None
            held.update(dict.fromkeys(outside))
            merged = self._members[node].union(*(self._members[n] for n in held))
            if not isinstance(self._try(merged), Unfit):
                return list(held)
        return None

    def outline(self, wrap: bool) -> Graph:
        """The graph with the groups in `kinds` as ops; logs why neighbours stayed apart."""
        for (at, other), reason in self._reasons.items():
            apart = self._owner[at] != self._owner[other]
            if apart and self._groups.are_neighbours(self._owner[at], self._owner[other]):
                self._log.refused(self._rule, self.facts.ops[other].loc, reason)
        if not self.kinds and not wrap:
            return self.facts.graph
        return Outliner(self.facts, self.kinds, wrap).run(self.order(), self._members)

    def _check(self, node: int, others: Sequence[int], merged: frozenset[int]) -> Kernel | Unfit:
        apart = [self.seconds(n) for n in (node, *others)]
        if None in apart:
            return Unfit("")
        if not all(self._log.sees(self.facts.ops[i]) for i in merged):
            return Unfit("")
        if len(merged) > MOST_OPS:
            return Unfit(f"a group holds at most {MOST_OPS} ops")
        kernel = self._try(merged)
        if isinstance(kernel, Unfit):
            return kernel
        together, separate = kernel.seconds(self._target), sum(s for s in apart if s is not None)
        if together > separate:
            times = f"{microseconds(together)} as one kernel, {microseconds(separate)} as two"
            return Unfit(f"costs more: {times}")
        return kernel

    def _try(self, members: frozenset[int]) -> Kernel | Unfit:
        region = self.facts.region(members)
        try:
            if len(members) > 1:
                check_limits(region)
            return self._fit(self.facts, region)
        except Unfit as unfit:
            return unfit

    def _loc(self, node: int) -> str:
        return self.facts.ops[min(self._members[node])].loc


def check_limits(region: Region) -> None:
    """Raise Unfit for a group that needs too many registers."""
    if len(region.params) > MOST_PARAMS:
        raise Unfit(
            f"it would read {len(region.params)} tensors, at most {MOST_PARAMS} are allowed"
        )
    if len(region.outputs) > MOST_OUTPUTS:
        raise Unfit(
            f"it would write {len(region.outputs)} tensors, at most {MOST_OUTPUTS} are allowed"
        )
