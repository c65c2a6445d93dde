"""What an emitter hands back: a kernel with its arguments and grid, or why there is none."""

from dataclasses import dataclass

from effcomp.ir import Dim, Value
from effcomp.plan.schema import TritonKernel


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One launch that computes all results of a group.

    `args` stand for the kernel's non-constexpr params in order: an operand or a result of the
    group (a pointer), or a size. `grid` counts programs; a grid of zero programs is no launch.
    """

    kernel: TritonKernel
    args: tuple[Value | Dim, ...]
    grid: tuple[Dim, Dim, Dim]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no kernel was made: the body then runs as library calls, and the plan notes it."""

    reason: str
