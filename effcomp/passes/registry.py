"""Every pass by its name: what pipelines in text form may hold."""

from collections.abc import Mapping

from effcomp.errors import PluginError
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
from effcomp.plugins import REGISTRY, load_plugins
from effcomp.rewrite import Pass

_ALL: tuple[type[Pass], ...] = (
    Canonicalize, Cse, Dce, Decompose, FoldConstants, FuseAttention, FuseEpilogue, FuseHorizontal,
    FusePointwise, FuseRowwise, PlanLayout, PlanMemory, Reinplace,
    SplitNorms,
)  # fmt: skip

PASSES: Mapping[str, type[Pass]] = {kind.name: kind for kind in _ALL}


def known_passes() -> Mapping[str, type[Pass]]:
    """The compiler's own passes and those of plugins. Raises PluginError where names clash."""
    load_plugins()
    for name, entry in REGISTRY.passes.items():
        if name in PASSES:
            raise PluginError(
                f"pass {name!r} is effcomp's own, and registered by {entry.origin}; rename yours"
            )
    return {**PASSES, **{name: entry.kind for name, entry in REGISTRY.passes.items()}}
