"""What a caller hands in: sizes are read from it, and it is checked against the plan's ports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from effcomp.errors import PlanError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import Expr, Plan, Port
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.notes import Notes

__all__ = ["ALIGNMENT", "Expectation", "Expected", "admit", "expect", "read_sizes"]

ALIGNMENT = 16
"""Bytes: kernels compiled for a GPU load whole vectors from pointers that are multiples of this."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A tensor port for known sizes. `aligned`: a kernel takes its address as a multiple of 16."""

    index: int
    port: Port
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    aligned: bool


def read_sizes(plan: Plan, args: Sequence[Any]) -> dict[str, int]:
    """The value of every size symbol for these arguments. Raises PlanError."""
    if len(args) != len(plan.ports):
        raise PlanError(f"plan {plan.name} takes {len(plan.ports)} arguments, not {len(args)}")
    sizes: dict[str, int] = {}
    for source in plan.symbols:
        arg = args[source.port]
        try:
            sizes[source.symbol] = int(arg) if source.dim < 0 else arg.shape[source.dim]
        except (AttributeError, IndexError, TypeError, ValueError):
            port = plan.ports[source.port]
            what = "be a size" if source.dim < 0 else f"have a dim {source.dim}"
            raise PlanError(
                f"{_place(plan, source.port, port)} should {what} to tell {source.symbol}, "
                f"but is {_describe(arg)}"
            ) from None
    return sizes


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a plan takes for known sizes: tensors, and (port, value) of sizes it can compute."""

    tensors: tuple[Expected, ...]
    sizes: tuple[tuple[int, int], ...]


def expect(plan: Plan, sizes: Mapping[str, int], aligned: frozenset[int]) -> Expectation:
    """What `plan` takes for `sizes`; `aligned` are the ports whose addresses kernels take."""
    tensors: list[Expected] = []
    values: list[tuple[int, int]] = []
    read = {source.port for source in plan.symbols if source.dim < 0}
    for index, port in enumerate(plan.ports):
        if (spec := port.spec) is not None:
            shape = tuple(evaluate(dim, sizes) for dim in spec.shape)
            strides = tuple(evaluate(stride, sizes) for stride in spec.strides)
            dtype = dtype_named(spec.dtype)
            tensors.append(Expected(index, port, dtype, shape, strides, index in aligned))
        elif port.size is not None and (index not in read or not _is_name(port.size)):
            values.append((index, evaluate(port.size, sizes)))
    return Expectation(tuple(tensors), tuple(values))


def _is_name(expr: Expr) -> bool:
    return isinstance(expr, str) and expr.isidentifier()


def admit(
    plan: Plan,
    expected: Expectation,
    args: list[Any],
    device: torch.device,
    notes: Notes,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Check `args` and put copies into the list where a tensor is right but lies wrongly.

    Returns (caller's tensor, copy) for the mutated ones: the copy has to be written back. Raises
    PlanError, which says what the argument is and what the plan takes.
    """
    for index, value in expected.sizes:
        if args[index] != value:
            port = plan.ports[index]
            raise PlanError(
                f"{_place(plan, index, port)} is {_describe(args[index])}, "
                f"the plan takes {port.size} = {value}"
            )
    write_back: list[tuple[torch.Tensor, torch.Tensor]] = []
    for e in expected.tensors:
        arg = args[e.index]
        if not isinstance(arg, torch.Tensor) or arg.dtype is not e.dtype or arg.shape != e.shape:
            raise PlanError(_mismatch(plan, e, arg, device))
        if arg.device != device:
            args[e.index] = arg = _moved(plan, e, arg, device, notes)
        if arg.stride() != e.strides and not _same_layout(e.shape, arg.stride(), e.strides):
            if e.port.mutated:
                raise PlanError(_mismatch(plan, e, arg, device))
            notes.add(f"argument {e.port.name!r} came with other strides than compiled for: copied")
            args[e.index] = arg = _copied(arg, e)
        if e.aligned and arg.data_ptr() % ALIGNMENT:
            notes.add(f"argument {e.port.name!r} is not aligned to {ALIGNMENT} bytes: copied")
            args[e.index] = copy = _copied(arg, e)
            if e.port.mutated:
                write_back.append((arg, copy))
    return write_back


def _moved(
    plan: Plan, e: Expected, arg: torch.Tensor, device: torch.device, notes: Notes
) -> torch.Tensor:
    """A CPU scalar beside tensors of a GPU is what torch's operators take too."""
    if arg.ndim or arg.device.type != "cpu" or e.port.mutated:
        raise PlanError(_mismatch(plan, e, arg, device))
    notes.add(f"argument {e.port.name!r} is a scalar on the CPU: moved to {device}")
    return arg.to(device)


def _copied(arg: torch.Tensor, e: Expected) -> torch.Tensor:
    return torch.empty_strided(e.shape, e.strides, dtype=e.dtype, device=arg.device).copy_(arg)


def _same_layout(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether strides agree wherever they matter: not in dims of size 1, nor in empty tensors."""
    if 0 in shape:
        return True
    return all(size == 1 or x == y for size, x, y in zip(shape, a, b, strict=True))


def _mismatch(plan: Plan, e: Expected, arg: Any, device: torch.device) -> str:
    taken = f"{e.dtype} {list(e.shape)} with strides {list(e.strides)} on {device}"
    return (
        f"{_place(plan, e.index, e.port)} is {_describe(arg)}, the plan takes a tensor of {taken}"
    )


def _place(plan: Plan, index: int, port: Port) -> str:
    return f"argument {index} ({port.name!r}) of {plan.name}"


def _describe(arg: Any) -> str:
    if isinstance(arg, torch.Tensor):
        return (
            f"a tensor of {arg.dtype} {list(arg.shape)} with strides {list(arg.stride())} "
            f"on {arg.device}"
        )
    return repr(arg) if isinstance(arg, int | float) else f"a {type(arg).__name__}"
