"""Pass `fuse-rowwise`: reductions, norms and softmax with the arithmetic around them."""

from dataclasses import dataclass, replace
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.passes.grouping import Facts, Grower, fit_rowwise
from effcomp.passes.grouping.permutes import sink_permutes
from effcomp.passes.grouping.roofline import microseconds
from effcomp.passes.grouping.rows import Unfit
from effcomp.passes.grouping.vocabulary import REDUCTIONS, is_row_reduction
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target

# How much slower than the library's a reduction alone may be: its neighbours make up for it.
MOST_LOSS = 1.5


@dataclass(frozen=True, slots=True)
class FuseRowwise:
    """layer_norm(x + y) * scale => fused.rowwise{add, layer_norm, mul}."""

    target: Target = TARGETS["cuda:90"]

    name: ClassVar[str] = "fuse-rowwise"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.FUSED

    def run(self, graph: Graph, log: Log) -> Graph:
        """Grow a group around every reduction: what it feeds first, then what feeds it."""
        facts = Facts(sink_permutes(graph, log))
        grower = Grower(facts, fit_rowwise, "FuseRowwise", self.target, log, lookahead=True)
        seeds = [
            n for n in facts.nodes() if is_row_reduction(facts.ops[n]) and log.sees(facts.ops[n])
        ]
        for node in seeds:
            if not grower.is_alive(node):
                continue
            if reason := self._has_idle_processors(grower, node):
                log.refused("FuseRowwise", facts.ops[node].loc, reason)
                continue
            grower.grow(node, lambda n: [*grower.after(n), *grower.before(n), *grower.siblings(n)])
            grower.kinds[node] = "fused.rowwise"
        return grower.outline(wrap=False)

    def _has_idle_processors(self, grower: Grower, node: int) -> str:
        """Why the library reduces better: it splits rows where a program a row makes too few."""
        kernel = grower.kernel(node)
        if self.target.kind == "cpu" or isinstance(kernel, Unfit):
            return ""
        if grower.facts.ops[node].name not in REDUCTIONS:
            return ""
        here = kernel.seconds(self.target)
        library = replace(kernel, parallel=self.target.processors).seconds(self.target)
        if here <= MOST_LOSS * library:
            return ""
        rows = f"{max(1.0, kernel.parallel):.0f} programs for {self.target.processors} processors"
        return f"{rows}: {microseconds(here)}, split by the library {microseconds(library)}"
