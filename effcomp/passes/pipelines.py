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
from effcomp.passes.split_norms import SplitNorms
from effcomp.rewrite import Pass, Pipeline
from effcomp.target import Target


def pipeline_for(target: Target, *, training: bool, horizontal_rows: int) -> Pipeline:
    """The passes for a target, from what capture gives to what code generation takes.

    `training` graphs keep their weights as they are: an optimizer writes to them between calls.
    `horizontal_rows` bounds the rows of linears that are joined; 0 joins none.
    """
    passes: list[Pass] = [
        Decompose(target=target),  # ops nobody emits become ops somebody does
        Canonicalize(),  # one form for what computes the same
        Cse(),  # equal values become one value: patterns see sharing as it is
        FuseAttention(),  # the largest pattern first, while nothing is grouped
        Canonicalize(),  # what attention left behind
    ]
    if not training:
        passes.append(FoldConstants())  # after patterns: they see weights, not results
        if horizontal_rows > 0:
            passes.append(FuseHorizontal(max_rows=horizontal_rows))  # few rows: wider products
    passes += [
        Reinplace(),  # after all that moves readers about: from here on a write has its place
        Dce(),  # nobody reads what is left over
    ]
    if not training:
        passes.append(PlanLayout(target=target))  # before groups: they follow the layouts
    passes += [
        SplitNorms(target=target),  # cut as their operands lie
        FuseRowwise(target=target),  # norms, softmax and reductions take in their neighbours
    ]
    if target.kind != "cpu":  # there the library's product is the fastest, and it has no epilogue
        passes.append(FuseEpilogue(target=target))  # products take in what follows, where it pays
    passes += [
        FusePointwise(target=target),  # everything elementwise that is left
        Dce(),  # what the groups compute for themselves
        PlanMemory(),  # last: the order in which the least is alive at once
    ]
    return Pipeline(tuple(passes))
