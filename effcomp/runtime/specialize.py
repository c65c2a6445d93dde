"""Which arguments of a launch are multiples of 16 at every call: Triton compiles for that."""

from dataclasses import dataclass

from effcomp.plan.schema import (
    Arg,
    BufferArg,
    ConstArg,
    Launch,
    Plan,
    SizeArg,
    TritonKernel,
    ViewPlace,
)
from effcomp.runtime.divisibility import divisor
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.program import Program

__all__ = ["Specialized", "offset_divisor", "specialize"]


@dataclass(frozen=True, slots=True)
class Specialized:
    """A kernel and the positions (among all params) of arguments that are multiples of 16."""

    kernel: TritonKernel
    divisible: tuple[int, ...]


def specialize(program: Program, step: Launch, kernel: TritonKernel) -> Specialized:
    """Which arguments of a launch are multiples of 16 at every call."""
    runtime = [i for i, p in enumerate(kernel.params) if p.type != "constexpr"]
    pairs = zip(runtime, step.args, strict=True)
    return Specialized(kernel, tuple(i for i, arg in pairs if _is_multiple(program, arg)))


def _is_multiple(program: Program, arg: Arg) -> bool:
    """Whether an argument is provably a multiple of 16.

    Arenas, outputs and constants start at multiples of 512, inputs and results of operators are
    copied where they do not start at multiples of 16; a view may move the start.
    """
    match arg:
        case SizeArg(expr=expr):
            return divisor(expr) % 16 == 0
        case ConstArg(value=int(value)) if not isinstance(value, bool):
            return value % 16 == 0
        case BufferArg(id=id):
            return offset_divisor(program.plan, id) % 16 == 0
        case _:
            return False


def offset_divisor(plan: Plan, id: int) -> int:
    """What divides the bytes between a buffer's start and its root's."""
    buffer = plan.buffers[id]
    if not isinstance(buffer.place, ViewPlace):
        return 512
    here = divisor(buffer.place.offset) * dtype_named(buffer.spec.dtype).itemsize
    below = offset_divisor(plan, buffer.place.of)
    return next(n for n in (16, 8, 4, 2, 1) if here % n == 0 and below % n == 0)
