"""Triton kernels of a plan: specialised, compiled before the first launch, launched fast."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from effcomp.errors import KernelError, PlanError
from effcomp.plan.expressions import names_in
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
from effcomp.runtime.bound import Action, KernelRunner
from effcomp.runtime.calls import Slots
from effcomp.runtime.divisibility import divisor
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.interpreter import InterpretedKernel
from effcomp.runtime.notes import Notes
from effcomp.runtime.preparing import prepared
from effcomp.runtime.program import Program
from effcomp.runtime.sources import load_function
from effcomp.runtime.triton_launch import (
    Specialized,
    arguments,
    compile_ahead,
    compile_kernel,
    is_cached,
    ready,
    start_driver,
)
from effcomp.runtime.workers import progress_bar, run_in_workers

__all__ = ["CompiledKernel", "load_kernels", "release_kernels", "specialize"]

_LOADED: dict[tuple[Specialized, int], "CompiledKernel"] = {}
_LOCK = threading.Lock()


class CompiledKernel:
    """A kernel loaded on a CUDA device."""

    def __init__(self, specialized: Specialized, compiled: Any, device: torch.device) -> None:
        self.kernel = specialized.kernel
        with torch.cuda.device(device):
            self.run, self.function, self.metadata = ready(specialized, compiled)
        self.index = device.index

    def bind(
        self, args: Sequence[Any], late: Sequence[tuple[int, int]], grid: tuple[int, int, int]
    ) -> Action:
        """A launch with these arguments on torch's current stream. Pointers go as integers."""
        values = [arg.data_ptr() if isinstance(arg, torch.Tensor) else arg for arg in args]
        full, positions = arguments(self.kernel, values)
        pointers = tuple((positions[position], id) for position, id in late)
        run, function, metadata, index = self.run, self.function, self.metadata, self.index
        stream: Callable[[int], int] = torch._C._cuda_getCurrentRawStream  # pyright: ignore[reportAttributeAccessIssue]
        name = self.kernel.function
        x, y, z = grid
        fixed = tuple(full)

        def launch(slots: Slots) -> None:
            values: Sequence[Any] = fixed
            if pointers:
                values = list(fixed)
                for position, id in pointers:
                    values[position] = slots[id].data_ptr()
            try:
                run(x, y, z, stream(index), function, metadata, None, None, None, *values)
            except RuntimeError as error:
                raise KernelError(f"kernel {name} did not launch: {error}") from error

        return launch


def load_kernels(
    program: Program, device: torch.device, progress: bool | None, notes: Notes
) -> dict[int, KernelRunner]:
    """The kernels of a plan's launches by step, compiled or interpreted as the device asks."""
    plan = program.plan
    kernels = {k.digest: k for k in plan.kernels if isinstance(k, TritonKernel)}
    launches = [
        (i, s, kernels[s.kernel]) for i, s in enumerate(plan.steps) if isinstance(s, Launch)
    ]
    if not launches:
        return {}
    for _, step, kernel in launches:
        _check(step, kernel)
    if device.type == "cpu":
        notes.add("kernels run in Triton's interpreter: right numbers, no speed")
        interpreted = {k: InterpretedKernel(k, *load_function(k)) for _, _, k in launches}
        return {index: interpreted[kernel] for index, _, kernel in launches}
    wanted = {i: specialize(program, step, kernel) for i, step, kernel in launches}
    loaded = _load_compiled(tuple(dict.fromkeys(wanted.values())), device, progress)
    return {index: loaded[specialized] for index, specialized in wanted.items()}


def _load_compiled(
    wanted: Sequence[Specialized], device: torch.device, progress: bool | None
) -> dict[Specialized, CompiledKernel]:
    """Compile what this process has not loaded yet; equal kernels compile once."""
    major, minor = torch.cuda.get_device_capability(device)
    capability = major * 10 + minor
    prepared()
    with _LOCK:
        missing = [s for s in wanted if (s, device.index) not in _LOADED]
        cold = [s for s in missing if not is_cached(s, capability)]
        with progress_bar("compiling kernels", len(cold), progress) as done:
            task = f"{compile_ahead.__module__}:{compile_ahead.__name__}"
            run_in_workers(task, [(s, capability) for s in cold], done)

        def load(specialized: Specialized) -> CompiledKernel:
            return CompiledKernel(specialized, compile_kernel(specialized, capability), device)

        if missing:
            start_driver()
        # Loading reads files, and on Triton 3.6 may wait for the C compiler: one beside another.
        with ThreadPoolExecutor(max_workers=8) as pool:
            for specialized, kernel in zip(missing, pool.map(load, missing), strict=True):
                _LOADED[specialized, device.index] = kernel
        return {s: _LOADED[s, device.index] for s in wanted}


def release_kernels() -> None:
    """Forget loaded kernels; executables that use them keep them."""
    with _LOCK:
        _LOADED.clear()


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


def _check(step: Launch, kernel: TritonKernel) -> None:
    runtime = [p for p in kernel.params if p.type != "constexpr"]
    if len(runtime) != len(step.args):
        raise PlanError(
            f"kernel {kernel.function} takes {len(runtime)} arguments, a launch gives "
            f"{len(step.args)}"
        )
    constants = {name for name, _ in kernel.constants}
    if lacking := [
        p.name for p in kernel.params if p.type == "constexpr" and p.name not in constants
    ]:
        raise KernelError(f"kernel {kernel.function} has no value for {', '.join(lacking)}")
    for extent in step.grid:
        names_in(extent)
