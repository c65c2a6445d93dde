"""Graphs as regions: a line of ATen calls, as data."""

import hashlib
import re

from effcomp.errors import LoweringError
from effcomp.ir import Graph, SizeType
from effcomp.plan.schema import RegionKernel
from effcomp.reference.emitter import Emitter


def region_of(graph: Graph) -> RegionKernel:
    """The graph as ATen calls, bodies inlined. Raises LoweringError.

    Local ids 0..len(params)-1 are the params; results of calls number on. Sizes stand in arguments
    as expressions over the graph's size names.
    """
    emitter = Emitter(graph)
    if sizes := [v for v in graph.outputs if isinstance(v.type, SizeType)]:
        raise LoweringError(
            f"@{graph.name} returns {sizes[0].type}: a region returns tensors, the plan its sizes"
        )
    # A constant may be returned too; it becomes a call here at the latest.
    outputs = tuple(emitter.tensor(v).id for v in graph.outputs)
    calls = tuple(emitter.calls)
    digest = hashlib.sha256(repr((calls, len(graph.params), outputs)).encode()).hexdigest()
    function = re.sub(r"\W", "_", graph.name) or "region"
    return RegionKernel(function, calls, len(graph.params), outputs, digest)
