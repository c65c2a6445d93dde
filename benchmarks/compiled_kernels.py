"""Compiles a plan's kernels for a GPU that need not be there, and asks ptxas what they use."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton

from effcomp.errors import KernelError
from effcomp.plan.schema import Launch, Plan, TritonKernel
from effcomp.runtime.program import Program, analyze
from effcomp.runtime.specialize import specialize
from effcomp.runtime.triton_compile import compile_kernel

__all__ = ["CompiledKernel", "CompiledKernels", "compile_kernels"]


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """What one kernel takes of a multiprocessor; spills and shared memory in bytes."""

    name: str
    digest: str
    seconds: float
    registers: int = 0
    spills: int = 0
    shared: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class CompiledKernels:
    """All kernels of a plan, one after the other in this process."""

    capability: int
    kernels: tuple[CompiledKernel, ...]

    @property
    def seconds(self) -> float:
        return sum(kernel.seconds for kernel in self.kernels)

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 2)}


def compile_kernels(plan: Plan, capability: int) -> CompiledKernels:
    """Compile every kernel once, as its first launch specialises it; Triton's cache counts."""
    program = analyze(plan)
    kernels = {k.digest: k for k in plan.kernels if isinstance(k, TritonKernel)}
    launches = {s.kernel: s for s in reversed(plan.steps) if isinstance(s, Launch)}
    found = (_compiled(program, launches[d], k, capability) for d, k in kernels.items())
    return CompiledKernels(capability, tuple(found))


def _compiled(
    program: Program, launch: Launch, kernel: TritonKernel, capability: int
) -> CompiledKernel:
    start = time.perf_counter()
    try:
        compiled = compile_kernel(specialize(program, launch, kernel), capability)
    except KernelError as error:
        return CompiledKernel(kernel.function, kernel.digest, 0.0, error=str(error)[-400:])
    seconds = time.perf_counter() - start
    registers, spills = _resources(compiled.asm["ptx"], capability)
    return CompiledKernel(
        kernel.function, kernel.digest, round(seconds, 3), registers, spills,
        int(compiled.metadata.shared),
    )  # fmt: skip


def _resources(ptx: str, capability: int) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as `ptxas -v` tells them."""
    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    architecture = re.search(r"\.target (sm_\w+)", ptx)
    name = architecture[1] if architecture else f"sm_{capability}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [str(ptxas), "-v", f"--gpu-name={name}", str(path), "-o", f"{folder}/kernel.o"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", told)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", told)
    return int(registers[1]) if registers else 0, sum(map(int, spills))
