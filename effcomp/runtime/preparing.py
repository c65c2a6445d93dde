"""What loading a plan will wait for and no plan has to be known for, done beside tracing.

Importing Triton, hashing its files (which every cache key holds), and having compile workers up.
"""

import contextlib
import threading

import torch

from effcomp.errors import KernelError
from effcomp.runtime.workers import start_workers

__all__ = ["prepare_to_compile", "prepare_to_load", "prepared"]

_LOCK = threading.Lock()
_thread: threading.Thread | None = None


def prepare_to_load(device: torch.device) -> None:
    """Start, once in a process, what every plan for `device` needs."""
    global _thread  # noqa: PLW0603 - once in a process
    if device.type != "cuda":
        return
    with _LOCK:
        if _thread is None:
            _thread = threading.Thread(target=_prepare, args=(device,), daemon=True)
            _thread.start()


def prepare_to_compile(device: torch.device) -> None:
    """Start workers: kernels that no cache holds are about to be wanted."""
    if device.type == "cuda":
        start_workers("effcomp.runtime.triton_compile:warm_up")


def prepared() -> None:
    """Wait for what was started."""
    if (thread := _thread) is not None:
        thread.join()


def _prepare(device: torch.device) -> None:
    from effcomp.runtime.triton_compile import warm_up

    # What fails here fails again, and is reported, where it is needed.
    with contextlib.suppress(KernelError, OSError), torch.cuda.device(device):
        warm_up()
