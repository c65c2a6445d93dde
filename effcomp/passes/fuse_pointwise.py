"""Pass `fuse-pointwise`: elementwise ops, with views and lookups between, become single loops."""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.passes.grouping import Facts, Grower, fit_pointwise
from effcomp.passes.grouping.vocabulary import is_pointwise
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target


@dataclass(frozen=True, slots=True)
class FusePointwise:
    """neg(exp(x)) => fused.pointwise{exp, neg}; afterwards no elementwise op stands alone."""

    target: Target = TARGETS["cuda:90"]

    name: ClassVar[str] = "fuse-pointwise"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.KERNEL

    def run(self, graph: Graph, log: Log) -> Graph:
        """Grow groups upwards from every op, then sideways, then make single ops groups."""
        grower = Grower(
            Facts(graph, sink_views=True), fit_pointwise, "FusePointwise", self.target, log
        )
        facts = grower.facts
        nodes = [n for n in facts.nodes() if is_pointwise(facts.ops[n]) and log.sees(facts.ops[n])]
        for node in nodes:
            if grower.is_alive(node):
                grower.grow(node, grower.before)
        for node in nodes:
            if grower.is_alive(node):
                grower.grow(node, lambda n: [*grower.siblings(n), *grower.before(n)])
        grower.kinds.update((n, "fused.pointwise") for n in nodes if grower.is_alive(n))
        return grower.outline(wrap=not log.scope.only)
