"""CPU regions: lines of ATen calls, run one by one or compiled (`region_compiler`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from effcomp.plan.schema import RegionKernel, RunRegion
from effcomp.runtime.bound import Action, Layout
from effcomp.runtime.calls import Slots, buffers_in, operator, prepare, results_of

__all__ = ["InterpretedRegion", "deliver"]


class InterpretedRegion:
    """A region run call by call."""

    def __init__(self, kernel: RegionKernel, device: torch.device) -> None:
        self.kernel, self.device = kernel, device
        self._drops = _drops(kernel)
        self._size = 1 + max(
            (
                kernel.inputs - 1,
                *kernel.outputs,
                *(id for call in kernel.calls for id in call.results if id is not None),
            )
        )

    def bind(
        self,
        step: RunRegion,
        sizes: Mapping[str, int],
        layouts: Sequence[Layout],
        adoptable: Sequence[bool],
    ) -> Action:
        """A run of the region on the buffers of `step`."""
        calls = [
            (
                prepare(call, operator(call.target), sizes, self.device),
                call.results,
                call.target,
                drop,
            )
            for call, drop in zip(self.kernel.calls, self._drops, strict=True)
        ]
        inputs, size, outputs = step.inputs, self._size, self.kernel.outputs
        padding = [None] * (size - len(inputs))

        def run(slots: Slots) -> None:
            local: list[Any] = [*(slots[id] for id in inputs), *padding]
            for call, results, name, drop in calls:
                returned = results_of(call(local), len(results), name)
                for id, value in zip(results, returned, strict=False):
                    if id is not None:
                        local[id] = value
                for id in drop:
                    local[id] = None
            read = [slots[id] for id in inputs]
            deliver([local[id] for id in outputs], read, step.outputs, layouts, adoptable, slots)

        return run


def deliver(
    values: Sequence[torch.Tensor],
    read: Sequence[torch.Tensor],
    outputs: Sequence[int],
    layouts: Sequence[Layout],
    adoptable: Sequence[bool],
    slots: Slots,
) -> None:
    """Put a region's results into its output buffers: as they are where allowed, else copied.

    Memory that the region read, or that two results share, is never handed on.
    """
    shared = {tensor.untyped_storage().data_ptr() for tensor in read}
    for value, id, layout, free in zip(values, outputs, layouts, adoptable, strict=True):
        if not free:
            slots[id].copy_(value)
            continue
        owner = value.untyped_storage().data_ptr()
        fits = value.shape == layout.shape and value.dtype is layout.dtype and layout.fits(value)
        whole = value.untyped_storage().nbytes() == layout.nbytes
        if fits and whole and owner not in shared:
            slots[id] = value
        else:
            slots[id] = layout.empty(value.device).copy_(value)
        shared.add(owner)


def _drops(kernel: RegionKernel) -> tuple[tuple[int, ...], ...]:
    """Values to forget after each call of the region."""
    last: dict[int, int] = {}
    for index, call in enumerate(kernel.calls):
        last.update((id, index) for id in buffers_in(call))
    lists: list[list[int]] = [[] for _ in kernel.calls]
    for id, index in last.items():
        if id not in kernel.outputs:
            lists[index].append(id)
    return tuple(map(tuple, lists))
