"""Pass `fuse-epilogue`: elementwise ops on a matrix product's result join its kernel."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.passes.grouping import Facts, Grower, fit_epilogue
from effcomp.passes.grouping.vocabulary import PRODUCTS, is_library_only
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target


@dataclass(frozen=True, slots=True)
class FuseEpilogue:
    """silu(linear(x, w)) * y => fused.matmul{linear, silu, mul}, where that wins.

    The library is faster than a template where arithmetic bounds the product, so large products
    keep their epilogue apart; products of few rows, bound by the weight's bytes, take it in.
    """

    target: Target = TARGETS["cuda:90"]

    name: ClassVar[str] = "fuse-epilogue"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.FUSED

    def run(self, graph: Graph, log: Log) -> Graph:
        """Let every product take in what reads it."""
        fit = partial(fit_epilogue, target=self.target)
        grower = Grower(Facts(graph), fit, "FuseEpilogue", self.target, log)
        for node in list(grower.facts.nodes()):
            op = grower.facts.ops[node]
            if op.name in PRODUCTS and not is_library_only(op):
                grower.grow(node, grower.after)
                if len(grower.members(node)) > 1:
                    grower.kinds[node] = "fused.matmul"
        return grower.outline(wrap=False)
