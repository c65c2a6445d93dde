"""Launches kernels on a fake CUDA driver: a process of its own.

    python -m tests.runtime.launch_on_fake FOLDER
    python -m tests.runtime.launch_on_fake FOLDER again
    python -m tests.runtime.launch_on_fake FOLDER kept

The first builds the driver in FOLDER, launches the kernel of `add_plan`, prints what arrived as
JSON and leaves the cubin there. The second loads the plan's kernels with that cubin, on a GPU that
it fits, where there is no Triton. The third finds them among the kernels that the first has kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from effcomp.errors import KernelError
from effcomp.plan.cubin import Cubin, dump_facts, load_facts
from effcomp.runtime.cuda_launch import LoadedKernel
from effcomp.runtime.kept_cubins import KeptCubins
from tests.runtime.plans import add_kernel, add_plan

__all__ = ["compiled_add", "fake_driver"]

SOURCE = Path(__file__).with_name("fake_libcuda.c")
STREAM = 7
CUDA = torch.device("cuda", 0)


def fake_driver(folder: Path) -> ctypes.CDLL:
    """Build the fake libcuda and make it this process's."""
    library = folder / "libcuda.so.1"
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(SOURCE), "-o"]
    subprocess.run([*command, str(library)], check=True)
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    torch._C._cuda_getCurrentRawStream = lambda _: STREAM  # pyright: ignore[reportAttributeAccessIssue]
    torch.cuda.device = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    return loaded


def compiled_add() -> Cubin:
    """The kernel of `add_plan`, compiled for sm_90."""
    from effcomp.runtime.specialize import Specialized
    from effcomp.runtime.triton_compile import cubin_of

    return cubin_of(Specialized(add_kernel(), (0, 1, 2)), 90)


def main() -> None:
    from effcomp.runtime.kernels import release_kernels

    fake = fake_driver(Path(sys.argv[1]))
    cubin = compiled_add()

    def integers(name: str, count: int = 1, kind: Any = ctypes.c_uint) -> list[int]:
        return list((kind * count).in_dll(fake, name))

    kernel = LoadedKernel(cubin, "add", CUDA)
    asked = integers("shared_asked")[0]
    x, y, out = torch.ones(4), torch.ones(4), torch.ones(4)
    ctypes.c_int.in_dll(fake, "parameter_count").value = 6
    launch = kernel.bind([x, None, out, 4], [(1, 2)], (2, 3, 1))
    launch([None, None, y])
    arrived: dict[str, Any] = {
        "launches": integers("launches")[0],
        "symbol": ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(fake, "symbol"))).decode(),
        "function": integers("function", 1, ctypes.c_uint64)[0],
        "stream": integers("stream", 1, ctypes.c_uint64)[0],
        "grid": integers("grid", 3),
        "block": integers("block", 3),
        "shared": integers("shared")[0],
        "parameters": integers("parameters", 6, ctypes.c_uint64),
        "expected": [x.data_ptr(), y.data_ptr(), out.data_ptr(), 4, 0, 0],
        "asked": asked,
        "params": cubin.facts.params,
    }
    # A thread without a context gets one and launches again; other errors are told.
    errors = (ctypes.c_int * 4).in_dll(fake, "errors")
    before = integers("contexts")[0]
    errors[1] = 201
    launch([None, None, y])
    arrived["entered"] = integers("contexts")[0] - before
    errors[integers("launches")[0] % 4] = 1
    try:
        launch([None, None, y])
    except KernelError as error:
        arrived["error"] = str(error)
    large = replace(cubin, facts=replace(cubin.facts, shared=100_000))
    LoadedKernel(large, "add", CUDA)
    arrived["asked for large"] = integers("shared_asked")[0]
    try:
        LoadedKernel(replace(large, facts=replace(cubin.facts, shared=300_000)), "add", CUDA)
    except KernelError as error:
        arrived["too large"] = str(error)
    folder = Path(sys.argv[1])
    (folder / "add.json").write_bytes(dump_facts(cubin.facts))
    (folder / "add.cubin").write_bytes(cubin.code)
    arrived["compiled"] = loaded_with((cubin,), (8, 0))
    release_kernels()
    loaded_with((), (9, 0), folder)
    print(json.dumps(arrived))


def loaded_with(
    cubins: tuple[Cubin, ...], capability: tuple[int, int], folder: Path | None = None
) -> list[str]:
    """What is noted when the kernels of `add_plan` are loaded on a GPU of this capability."""
    from effcomp.runtime.kernels import load_kernels
    from effcomp.runtime.notes import Notes
    from effcomp.runtime.program import analyze

    torch.cuda.get_device_capability = lambda device=None: capability
    notes = Notes()
    plan = add_plan()
    kept = KeptCubins(folder / "kept", "") if folder is not None else None
    kernel, *_ = load_kernels(analyze(plan), CUDA, False, notes, cubins, kept).values()
    x, y, out = torch.ones(4), torch.ones(4), torch.ones(4)
    kernel.bind([x, y, out, 4], [], (1, 1, 1))([])
    return list(notes.lines())


def again() -> None:
    sys.modules["triton"] = None  # pyright: ignore[reportArgumentType]
    folder = Path(sys.argv[1])
    facts = load_facts((folder / "add.json").read_bytes(), "add.json")
    tell(folder, (Cubin(facts, (folder / "add.cubin").read_bytes()),), None)


def kept() -> None:
    sys.modules["effcomp.runtime.triton_compile"] = None  # pyright: ignore[reportArgumentType]
    folder = Path(sys.argv[1])
    tell(folder, (), folder)


def tell(folder: Path, cubins: tuple[Cubin, ...], kept_in: Path | None) -> None:
    """Load on the driver that is there, and print what was noted and launched."""
    fake = ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL)
    torch._C._cuda_getCurrentRawStream = lambda _: STREAM  # pyright: ignore[reportAttributeAccessIssue]
    notes = loaded_with(cubins, (9, 0), kept_in)
    print(json.dumps({"notes": notes, "launches": ctypes.c_int.in_dll(fake, "launches").value}))


if __name__ == "__main__":
    {(): main, ("again",): again, ("kept",): kept}[tuple(sys.argv[2:])]()
