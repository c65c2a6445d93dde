"""Seconds that a kernel takes, by bandwidth, arithmetic and launches."""

from dataclasses import dataclass

from effcomp.ir import Op, Value
from effcomp.ir.cost import op_bytes, op_flops
from effcomp.ir.types import ITEMSIZE, TensorType
from effcomp.passes.grouping.demand import Demand
from effcomp.passes.grouping.sizes import typical, typical_numel
from effcomp.target import Target

# A Triton template against the vendor's library, where arithmetic bounds a product.
TEMPLATE_EFFICIENCY = 0.8


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one kernel moves and computes. `parallel`: how many programs can run at once."""

    read: float
    written: float
    flops: float
    parallel: float

    def seconds(self, target: Target) -> float:
        """Time alone on the device, its launch included."""
        busy = min(1.0, self.parallel / target.processors)
        moved = (self.read + self.written) / (target.bandwidth * busy)
        return max(moved, self.flops / (target.vector_rate * busy)) + target.launch_seconds


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
            loads = size * len(demand.maps.get(v, ()))
            read += ITEMSIZE[v.dtype] * min(typical_numel(v.shape), loads)
    written = float(sum(nbytes(v) for v in outputs))
    return Kernel(read, written, float(demand.flops) * size, parallel)


def nbytes(value: Value) -> int:
    """Bytes of a dense tensor, sizes with a name taken for a typical one."""
    if not isinstance(value.type, TensorType):
        return 0
    return ITEMSIZE[value.dtype] * typical_numel(value.shape)


def product_seconds(op: Op, target: Target, efficiency: float) -> float:
    """A matrix product, at a part of the library's rate where arithmetic bounds it."""
    compute = typical(op_flops(op)) / (target.matrix_rate * efficiency)
    return max(compute, typical(op_bytes(op)) / target.bandwidth) + target.launch_seconds


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"
