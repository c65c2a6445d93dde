"""Seconds that a kernel takes, by bandwidth, arithmetic and launches."""

from dataclasses import dataclass

from effcomp.ir import Op, Value
from effcomp.ir.cost import op_flops
from effcomp.ir.types import ITEMSIZE, TensorType
from effcomp.passes.grouping.demand import Demand, is_scattered
from effcomp.passes.grouping.sizes import nbytes, typical, typical_numel
from effcomp.target import Target

# A Triton template against the vendor's library, where arithmetic bounds a product.
TEMPLATE_EFFICIENCY = 0.7
# What a read costs whose neighbours in the loop are no neighbours in memory.
SCATTERED = 2.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one kernel moves and computes.

    `parallel`: how many programs can run at once; `matrix`: seconds of matrix products.
    """

    read: float
    written: float
    flops: float
    parallel: float
    matrix: float = 0.0

    def seconds(self, target: Target) -> float:
        """Time alone on the device, its launch included."""
        busy = min(1.0, max(1.0, self.parallel) / target.processors)
        moved = (self.read + self.written) / (target.bandwidth * busy)
        computed = self.matrix + self.flops / (target.vector_rate * busy)
        return max(moved, computed) + target.launch_seconds


def loop_kernel(
    params: tuple[Value, ...],
    outputs: tuple[Value, ...],
    demand: Demand,
    size: int,
    parallel: float,
) -> Kernel:
    """A kernel that loops over `size` elements and reads its params as `demand` says."""
    read = 0.0
    for v in params:
        if isinstance(v.type, TensorType):
            maps = demand.maps.get(v, set())
            loads = ITEMSIZE[v.dtype] * min(typical_numel(v.shape), size * len(maps))
            read += loads * (SCATTERED if any(map(is_scattered, maps)) else 1)
    written = float(sum(nbytes(v) for v in outputs))
    return Kernel(read, written, float(demand.flops) * size, parallel)


def product_kernel(op: Op, reads: float, written: float, flops: float, target: Target) -> Kernel:
    """A matrix product with `flops` of arithmetic after it; with none, the library's.

    A template reaches a part of the library's rate on a GPU; a CPU calls the library either way.
    """
    own = flops > 0 and target.kind == "cuda"
    rate = target.matrix_rate if op.results[0].dtype in ("bf16", "f16") else target.vector_rate
    matrix = typical(op_flops(op)) / (rate * (TEMPLATE_EFFICIENCY if own else 1.0))
    return Kernel(reads, written, flops, float(target.processors), matrix)


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"
