"""Triton kernels of a plan: loaded from cubins where there are any, else compiled first."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from effcomp.errors import KernelError, PlanError
from effcomp.plan.cubin import Cubin
from effcomp.plan.expressions import names_in
from effcomp.plan.schema import Launch, TritonKernel
from effcomp.runtime.bound import KernelRunner
from effcomp.runtime.cuda_launch import LoadedKernel, capability_of, fits
from effcomp.runtime.kept_cubins import KeptCubins
from effcomp.runtime.notes import Notes
from effcomp.runtime.preparing import prepared
from effcomp.runtime.program import Program
from effcomp.runtime.specialize import Specialized, specialize
from effcomp.runtime.workers import progress_bar, run_in_workers

__all__ = ["build_cubins", "load_kernels", "release_kernels"]

_LOADED: dict[tuple[Specialized, int], LoadedKernel] = {}
_LOCK = threading.Lock()


def load_kernels(
    program: Program,
    device: torch.device,
    progress: bool | None,
    notes: Notes,
    cubins: Sequence[Cubin] = (),
    kept: KeptCubins | None = None,
) -> dict[int, KernelRunner]:
    """The kernels of a plan's launches by step, interpreted on a CPU.

    `cubins` are kernels compiled already; what they lack for this device is looked for in `kept`,
    else compiled here and kept there.
    """
    launches = _launches(program)
    if not launches:
        return {}
    if device.type == "cpu":
        notes.add("kernels run in Triton's interpreter: right numbers, no speed")
        interpreted = {k: _interpreted(k) for _, _, k in launches}
        return {index: interpreted[kernel] for index, _, kernel in launches}
    wanted = {i: specialize(program, step, kernel) for i, step, kernel in launches}
    distinct = tuple(dict.fromkeys(wanted.values()))
    capability = capability_of(device)
    known = {(c.facts.kernel, c.facts.divisible): c for c in cubins if fits(c.facts, capability)}
    found = {s: known[key] for s in distinct if (key := (s.kernel.digest, s.divisible)) in known}
    if cubins and len(found) < len(distinct):
        notes.add(
            f"{len(distinct) - len(found)} of {len(distinct)} kernels were compiled while loading: "
            f"the artifact has none for sm_{capability}"
        )
    loaded = _load(distinct, found, capability, device, progress, kept)
    return {index: loaded[specialized] for index, specialized in wanted.items()}


def build_cubins(
    program: Program, capability: int, progress: bool | None = None
) -> tuple[Cubin, ...]:
    """Compile every kernel of a plan as its launches need it. Needs no GPU."""
    wanted = {specialize(program, step, kernel): None for _, step, kernel in _launches(program)}
    return tuple(_compile(tuple(wanted), capability, progress).values())


def _launches(program: Program) -> list[tuple[int, Launch, TritonKernel]]:
    """The launches of a plan with their kernels. Raises PlanError, KernelError."""
    plan = program.plan
    kernels = {k.digest: k for k in plan.kernels if isinstance(k, TritonKernel)}
    found = [(i, s, kernels[s.kernel]) for i, s in enumerate(plan.steps) if isinstance(s, Launch)]
    for _, step, kernel in found:
        _check(step, kernel)
    return found


def _interpreted(kernel: TritonKernel) -> KernelRunner:
    # Triton is imported only where something has to be compiled or interpreted.
    from effcomp.runtime.interpreter import InterpretedKernel
    from effcomp.runtime.sources import load_function

    return InterpretedKernel(kernel, *load_function(kernel))


def _load(
    wanted: Sequence[Specialized],
    found: Mapping[Specialized, Cubin],
    capability: int,
    device: torch.device,
    progress: bool | None,
    kept: KeptCubins | None,
) -> dict[Specialized, LoadedKernel]:
    """Load what this process has not loaded yet, compiling what is not among `found`."""
    with _LOCK:
        missing = [s for s in wanted if (s, device.index) not in _LOADED]
        absent = tuple(s for s in missing if s not in found)
        cubins = {**found, **_kept_or_compiled(absent, capability, progress, kept)}
        for specialized in missing:
            kernel = LoadedKernel(cubins[specialized], specialized.kernel.function, device)
            _LOADED[specialized, device.index] = kernel
        return {s: _LOADED[s, device.index] for s in wanted}


def _kept_or_compiled(
    wanted: Sequence[Specialized], capability: int, progress: bool | None, kept: KeptCubins | None
) -> dict[Specialized, Cubin]:
    if kept is None or not wanted:
        return _compile(wanted, capability, progress)
    found = kept.read(wanted, capability)
    made = _compile([s for s in wanted if s not in found], capability, progress)
    if made:
        kept.write(made)
    return {**found, **made}


def _compile(
    wanted: Sequence[Specialized], capability: int, progress: bool | None
) -> dict[Specialized, Cubin]:
    """Compile in parallel; equal kernels compile once."""
    if not wanted:
        return {}
    from effcomp.runtime.triton_compile import compile_kernel, cubin_of, is_cached

    prepared()
    cold = [s for s in wanted if not is_cached(s, capability)]
    with progress_bar("compiling kernels", len(cold), progress) as done:
        task = f"{compile_kernel.__module__}:{compile_kernel.__name__}"
        run_in_workers(task, [(s, capability) for s in cold], done)
    # What the workers did lies in Triton's cache on disk: reading it takes files, not time.
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(wanted, pool.map(lambda s: cubin_of(s, capability), wanted), strict=True))


def release_kernels() -> None:
    """Forget loaded kernels; executables that use them keep them."""
    with _LOCK:
        _LOADED.clear()


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
