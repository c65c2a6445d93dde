"""Pass `fuse-epilogue`: elementwise ops on a matrix product's result join its kernel."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from effcomp.ir import Graph, Level, Op
from effcomp.ir.dims import product
from effcomp.passes.grouping import Facts, Grower, fit_epilogue
from effcomp.passes.grouping.vocabulary import PRODUCTS, is_library_only
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target


@dataclass(frozen=True, slots=True)
class FuseEpilogue:
    """silu(linear(x, w)) * y => fused.matmul{linear, silu, mul}, where that wins.

    The library is faster than a template where arithmetic bounds the product, so large products
    keep their epilogue apart; products of few rows, bound by the weight's bytes, take it in. A
    product of one row is a kernel of ours with or without an epilogue.
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
            if op.name in PRODUCTS and not is_library_only(op) and log.sees(op):
                grower.grow(node, grower.after)
                if len(grower.members(node)) > 1 or self._is_row_by_matrix(op):
                    grower.kinds[node] = "fused.matmul"
        return grower.outline(wrap=False)

    def _is_row_by_matrix(self, op: Op) -> bool:
        """Whether a product only reads a weight, at the memory's rate: libraries are tuned less."""
        rows = product(op.result.shape[:-1])
        fits = op.name == "nn.linear" and op.result.dtype in ("bf16", "f16", "f32")
        return self.target.kind == "cuda" and fits and rows == 1
