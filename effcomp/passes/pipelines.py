"""The table of contents: which passes run, in which order, and why."""

from effcomp.passes.canonicalize import Canonicalize
from effcomp.passes.cse import Cse
from effcomp.passes.dce import Dce
from effcomp.passes.decompose import Decompose
from effcomp.passes.fold_constants import FoldConstants
from effcomp.passes.fuse_attention import FuseAttention
from effcomp.passes.fuse_epilogue import FuseEpilogue
from effcomp.passes.fuse_horizontal import FuseHorizontal
from effcomp.passes.fuse_pointwise import FusePointwise
from effcomp.passes.fuse_rowwise import FuseRowwise
from effcomp.passes.plan_layout import PlanLayout
from effcomp.passes.plan_memory import PlanMemory
from effcomp.passes.reinplace import Reinplace
from effcomp.passes.slots import Slot, with_plugins
from effcomp.passes.split_norms import SplitNorms
from effcomp.rewrite import Pipeline
from effcomp.target import Target


def pipeline_for(target: Target, *, training: bool, horizontal_rows: int) -> Pipeline:
    """The passes for a target, from what capture gives to what code generation takes.

    `training` graphs keep their weights as they are: an optimizer writes to them between calls.
    `horizontal_rows` bounds the rows of linears that are joined; 0 joins none. Passes of plugins
    stand where they asked to.
    """
    slots = with_plugins(_own_slots(target, training, horizontal_rows), target, training)
    return Pipeline(tuple(slot.one for slot in slots if slot.runs))


def _own_slots(target: Target, training: bool, horizontal_rows: int) -> list[Slot]:
    cuda = target.kind == "cuda"
    return [
        Slot(Decompose(target=target)),  # ops nobody emits become ops somebody does
        Slot(Canonicalize()),  # one form for what computes the same
        Slot(Cse()),  # equal values become one value: patterns see sharing as it is
        Slot(FuseAttention()),  # the largest pattern first, while nothing is grouped
        Slot(Canonicalize()),  # what attention left behind
        Slot(FoldConstants(), not training),  # after patterns: they see weights, not results
        # few rows: wider products
        Slot(FuseHorizontal(max_rows=horizontal_rows), not training and horizontal_rows > 0),
        Slot(Reinplace()),  # after all that moves readers about: a write has its place from here
        Slot(Dce()),  # nobody reads what is left over
        Slot(PlanLayout(target=target), not training),  # before groups: they follow the layouts
        Slot(SplitNorms(target=target)),  # cut as their operands lie
        Slot(FuseRowwise(target=target)),  # norms, softmax and reductions take in their neighbours
        # products take in what follows, where it pays: a CPU's library product has no epilogue
        Slot(FuseEpilogue(target=target), cuda),
        Slot(FusePointwise(target=target)),  # everything elementwise that is left
        Slot(Dce()),  # what the groups compute for themselves
        Slot(PlanMemory()),  # last: the order in which the least is alive at once
    ]
