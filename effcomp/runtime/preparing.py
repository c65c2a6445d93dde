"""What compiling a plan's kernels will wait for, done beside passes and code generation.

Importing Triton, hashing its files (which every key of its cache holds), having workers up.
"""

import contextlib
import threading

import torch

from effcomp.errors import KernelError
from effcomp.runtime.workers import start_workers

__all__ = ["prepare_to_compile", "prepared"]

_LOCK = threading.Lock()
_thread: threading.Thread | None = None


def prepare_to_compile(device: torch.device) -> None:
    """Kernels that no cache may hold are about to be wanted: start what they need."""
    global _thread  # noqa: PLW0603 - once in a process
    if device.type != "cuda":
        return
    start_workers("effcomp.runtime.triton_compile:warm_up")
    with _LOCK:
        if _thread is None:
            _thread = threading.Thread(target=_prepare, daemon=True)
            _thread.start()


def prepared() -> None:
    """Wait for what was started."""
    if (thread := _thread) is not None:
        thread.join()


def _prepare() -> None:
    from effcomp.runtime.triton_compile import warm_up

    # What fails here fails again, and is reported, where it is needed.
    with contextlib.suppress(KernelError, OSError):
        warm_up()
