"""What the ways of running an op share: the draft, the target, the table of ATen calls."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from effcomp.codegen.draft import Draft
from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.codegen.program import Program
from effcomp.errors import LoweringError
from effcomp.ir import Graph, Op, Value
from effcomp.ir.verify import excerpt
from effcomp.plan.schema import RegionKernel
from effcomp.target import Target

RegionOf = Callable[[Graph], RegionKernel]


@dataclass(frozen=True, slots=True)
class Lowering:
    """One graph on its way to a plan.

    `region_of` gives ATen calls for a graph. `unread` are the results that neither an op nor an
    output uses. `positions` says where each op stood in the program that was given. `emitted` are
    the kernels made so far, by the structure of their group: a model's layers are alike.
    """

    program: Program
    target: Target
    region_of: RegionOf
    unread: frozenset[Value]
    positions: tuple[int, ...]
    draft: Draft = field(default_factory=Draft)
    emitted: dict[Hashable, tuple[KernelLaunch | Refusal, tuple[Value, ...]]] = field(
        default_factory=dict[Hashable, tuple[KernelLaunch | Refusal, tuple[Value, ...]]]
    )

    def is_read(self, value: Value) -> bool:
        return value not in self.unread

    def error(self, op: Op, reason: str) -> LoweringError:
        """An error that shows the op among its neighbours."""
        graph = self.program.graph
        where = excerpt(graph, graph.ops.index(op)) if op in graph.ops else op.loc
        return LoweringError(f"{op.name}: {reason}\n{where}")
