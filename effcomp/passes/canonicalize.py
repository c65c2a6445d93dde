"""canonicalize: one form for programs that compute the same, so that later patterns find it.

Lossless: every rule holds for signed zeros, infinities, NaN, and any size a symbol may stand for.
"""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.passes.aliases import keep_outputs_apart
from effcomp.passes.canonical.arithmetic import ARITHMETIC
from effcomp.passes.canonical.broadcasting import BROADCASTING
from effcomp.passes.canonical.concats import CONCATS
from effcomp.passes.canonical.constants import CONSTANTS
from effcomp.passes.canonical.products import PRODUCTS
from effcomp.passes.canonical.views import VIEWS
from effcomp.rewrite import AnyRule, Log, apply_rules

RULES: tuple[AnyRule, ...] = (*CONSTANTS, *ARITHMETIC, *VIEWS, *BROADCASTING, *CONCATS, *PRODUCTS)


@dataclass(frozen=True, slots=True)
class Canonicalize:
    """Fold constants, views and identities of arithmetic to a fixed point."""

    name: ClassVar[str] = "canonicalize"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        return keep_outputs_apart(graph, apply_rules(graph, RULES, log))
