"""Pass `fuse-rowwise`: reductions, norms and softmax with the arithmetic around them."""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.passes.grouping import Facts, Grower, fit_rowwise
from effcomp.passes.grouping.vocabulary import is_row_reduction
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target


@dataclass(frozen=True, slots=True)
class FuseRowwise:
    """layer_norm(x + y) * scale => fused.rowwise{add, layer_norm, mul}."""

    target: Target = TARGETS["cuda:90"]

    name: ClassVar[str] = "fuse-rowwise"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.FUSED

    def run(self, graph: Graph, log: Log) -> Graph:
        """Grow a group around every reduction: what it feeds first, then what feeds it."""
        grower = Grower(Facts(graph), fit_rowwise, "FuseRowwise", self.target, log, lookahead=True)
        facts = grower.facts
        seeds = [n for n in facts.nodes() if is_row_reduction(facts.ops[n])]
        for node in seeds:
            if grower.is_alive(node):
                grower.grow(
                    node,
                    lambda n: [*grower.after(n), *grower.before(n), *grower.siblings(n)],
                )
                grower.kinds[node] = "fused.rowwise"
        return grower.outline(wrap=False)
