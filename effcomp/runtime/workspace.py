"""Arenas that are reused: executables that never run at the same time share one allocation.

A process with many graphs (graph breaks, forward and backward) needs the largest arena once, not
the sum of all. A call takes a free workspace and gives it back; nothing in it outlives the call.
"""

import threading
from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import torch

__all__ = ["Workspace", "Workspaces"]


class Workspace:
    """One allocation on a device; `base` is replaced by a larger one when more is needed.

    Programs bound to it are kept here, by owner and sizes: were they kept elsewhere, their views
    would keep every outgrown allocation alive.
    """

    def __init__(self, device: torch.device, private: bool = False) -> None:
        self.device, self.private = device, private
        self.base = _allocate(0, device)
        self.bound: WeakKeyDictionary[Any, OrderedDict[Any, Any]] = WeakKeyDictionary()
        self._stream: torch.cuda.Stream | None = None

    def reserve(self, size: int) -> None:
        """Make `base` hold at least `size` bytes; growing forgets what is bound.

        It grows by an eighth at least: sizes that rise call by call must not bind anew each time.
        """
        have = self.base.numel()
        if size > have:
            self.bound.clear()
            self.base = _allocate(0, self.device)  # free the old one first
            self.base = _allocate(max(size, have + have // 8), self.device)

    def follow_stream(self) -> None:
        """Order this use after the previous one, where that was on another CUDA stream."""
        if self.device.type != "cuda":
            return
        current = torch.cuda.current_stream(self.device)
        if self._stream is not None and self._stream != current:
            current.wait_stream(self._stream)
            self.base.record_stream(current)
        self._stream = current


class Workspaces:
    """The free workspaces of every device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: dict[torch.device, list[Workspace]] = {}

    def take(self, device: torch.device) -> Workspace:
        """A workspace to use until it is given back; nested and parallel calls get others.

        While a CUDA stream is captured the memory has to be the capture's own: what is lent to
        others later would be written by every replay.
        """
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return Workspace(device, private=True)
        with self._lock:
            free = self._free.setdefault(device, [])
            workspace = free.pop() if free else Workspace(device)
        workspace.follow_stream()
        return workspace

    def give_back(self, workspace: Workspace) -> None:
        if workspace.private:
            return
        with self._lock:
            self._free.setdefault(workspace.device, []).append(workspace)

    def release(self) -> None:
        """Drop the memory of every workspace that is free."""
        with self._lock:
            self._free.clear()


def _allocate(size: int, device: torch.device) -> torch.Tensor:
    # Made outside inference mode: an inference tensor could not be written by later calls.
    with torch.inference_mode(False):
        return torch.empty(-(-size // 512) * 512, dtype=torch.uint8, device=device)
