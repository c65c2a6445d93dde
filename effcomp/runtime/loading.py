"""From a plan to something that can be called."""

import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch

from effcomp.errors import DeviceError, PlanError
from effcomp.plan.cubin import Cubin
from effcomp.plan.schema import Plan
from effcomp.runtime.bound import Machine
from effcomp.runtime.executable import Executable
from effcomp.runtime.graphs import CudaCapture, Graphs
from effcomp.runtime.kept_cubins import KeptCubins
from effcomp.runtime.kernels import load_kernels
from effcomp.runtime.notes import Notes
from effcomp.runtime.program import analyze
from effcomp.runtime.prologue import Prologue
from effcomp.runtime.regions import Regions
from effcomp.runtime.workspace import Workspaces

__all__ = ["load", "release"]

_WORKSPACES = Workspaces()
_LOADED: weakref.WeakSet[Executable] = weakref.WeakSet()


def load(
    plan: Plan,
    device: torch.device,
    *,
    constants: Sequence[torch.Tensor] = (),
    cuda_graphs: Literal["auto", "on", "off"] = "auto",
    regions: Literal["auto", "always", "never"] = "auto",
    progress: bool | None = None,
    cubins: Sequence[Cubin] = (),
    kept: KeptCubins | None = None,
) -> Executable:
    """Make a plan callable on `device`; its kernels are compiled here, before the first call.

    `constants` are the arguments of the last ports, kept with the executable; `cubins` are kernels
    of the plan that have been compiled already, for whatever GPU; `kept` is where others are looked
    for, and kept. A plan for a GPU may be loaded on a CPU: Triton's interpreter then runs its
    kernels. Raises PlanError, KernelError, DeviceError.
    """
    device = _device(plan, device)
    if len(constants) > len(plan.ports):
        raise PlanError(
            f"{len(constants)} constants for the {len(plan.ports)} ports of {plan.name}"
        )
    program = analyze(plan, len(constants))
    notes = Notes()
    prologue = None
    if plan.prologue is not None:
        options: Any = {"regions": regions, "progress": progress, "cubins": cubins, "kept": kept}
        inner = load(plan.prologue, device, cuda_graphs="off", **options)
        prologue = Prologue(inner, plan.prologue_ports)
    machine = Machine(
        device,
        load_kernels(program, device, progress, notes, cubins, kept),
        Regions(plan, device, regions, progress, notes),
        notes,
    )
    graphs = None
    if device.type == "cuda" and cuda_graphs != "off":
        capture = CudaCapture.of(device)
        graphs = Graphs(program, cuda_graphs, notes, capture, _WORKSPACES.release)
    executable = Executable(program, machine, _WORKSPACES, constants, prologue, graphs)
    _LOADED.add(executable)
    return executable


def release() -> None:
    """Free what executables keep between calls: arenas, what is bound to them, CUDA graphs."""
    for executable in tuple(_LOADED):
        executable.release()
    CudaCapture.release()
    _WORKSPACES.release()


def _device(plan: Plan, device: torch.device) -> torch.device:
    """The device with an index where it needs one."""
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda" or not plan.target.startswith("cuda"):
        raise DeviceError(f"plan {plan.name} is for {plan.target}, it cannot be loaded on {device}")
    if device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
