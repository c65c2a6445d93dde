"""Groups: one mechanism for every pass that makes one kernel of several ops."""

from effcomp.passes.grouping.facts import Facts, Region
from effcomp.passes.grouping.fit import fit_epilogue, fit_pointwise, fit_rowwise
from effcomp.passes.grouping.group_graph import GroupGraph
from effcomp.passes.grouping.grower import Grower

__all__ = [
    "Facts",
    "GroupGraph",
    "Grower",
    "Region",
    "fit_epilogue",
    "fit_pointwise",
    "fit_rowwise",
]
