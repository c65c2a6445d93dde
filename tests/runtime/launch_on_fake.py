"""Launches a kernel through Triton's own launcher on a fake CUDA driver: a process of its own.

    python -m tests.runtime.launch_on_fake FOLDER

builds the driver in FOLDER, launches the kernel of `add_plan`, and prints what arrived as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.runtime.plans import add_kernel

__all__ = ["fake_driver", "loaded_add"]

SOURCE = Path(__file__).with_name("fake_libcuda.c")
STREAM = 7


def fake_driver(folder: Path) -> ctypes.CDLL:
    """Build the fake libcuda and make it this process's; Triton's next driver is the fake one."""
    library = folder / "libcuda.so.1"
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(SOURCE), "-o"]
    subprocess.run([*command, str(library)], check=True)
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    from triton.backends.nvidia.driver import CudaDriver
    from triton.runtime.driver import driver

    torch._C._cuda_getCurrentRawStream = lambda _: STREAM  # pyright: ignore[reportAttributeAccessIssue]
    torch.cuda.device = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
    made: Any = CudaDriver()
    made.get_current_device = lambda: 0
    made.get_device_capability = lambda _: (9, 0)
    driver.set_active(made)
    return loaded


def loaded_add() -> Any:
    """The kernel of `add_plan`, compiled for sm_90 and loaded."""
    from effcomp.runtime.kernels import CompiledKernel
    from effcomp.runtime.triton_launch import Specialized, compile_kernel

    specialized = Specialized(add_kernel(), (0, 1, 2))
    return CompiledKernel(specialized, compile_kernel(specialized, 90), torch.device("cuda", 0))


def main() -> None:
    fake = fake_driver(Path(sys.argv[1]))
    kernel = loaded_add()
    x, y, out = torch.ones(4), torch.ones(4), torch.ones(4)
    ctypes.c_int.in_dll(fake, "parameter_count").value = 4
    kernel.bind([x, None, out, 4], [(1, 2)], (2, 3, 1))([None, None, y])

    def integers(name: str, count: int, kind: Any = ctypes.c_uint) -> list[int]:
        return list((kind * count).in_dll(fake, name))

    arrived = {
        "launches": integers("launches", 1)[0],
        "function": integers("function", 1, ctypes.c_uint64)[0],
        "stream": integers("stream", 1, ctypes.c_uint64)[0],
        "grid": integers("grid", 3),
        "threads": integers("block", 1)[0],
        "pointers": integers("parameters", 3, ctypes.c_uint64),
        "n": integers("parameters", 7)[6],
        "given": [t.data_ptr() for t in (x, y, out)],
    }
    print(json.dumps(arrived))


if __name__ == "__main__":
    main()
