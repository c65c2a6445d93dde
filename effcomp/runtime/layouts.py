"""Types, shapes and places of a plan's buffers for known sizes, and the memory they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from effcomp.errors import PlanError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import Buffer, CallPlace, OutputPlace
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.memory import Span, extent, place_spans
from effcomp.runtime.program import Program, touched

__all__ = [
    "UNSTATED",
    "Layout",
    "arena_alignment",
    "arena_layout",
    "distance",
    "fresh_bytes",
    "layout_of",
    "spans_of",
]


@dataclass(frozen=True, slots=True)
class Layout:
    """Element type, shape and strides of a buffer, for known sizes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return extent(self.shape, self.strides) * self.dtype.itemsize

    def empty(self, device: torch.device) -> torch.Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)

    def view(self, base: torch.Tensor, offset: int) -> torch.Tensor:
        """The memory of `base` from its element `offset` on, under this layout."""
        if base.dtype is self.dtype:
            return base.as_strided(self.shape, self.strides, int(base.storage_offset()) + offset)
        start = int(base.storage_offset()) * base.dtype.itemsize
        if start % self.dtype.itemsize:
            raise PlanError(f"a view as {self.dtype} starts at byte {start} of its memory")
        return self._over(base, start // self.dtype.itemsize + offset)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Layout":
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride())

    def adopted(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The tensor, if it is of this type, shape and layout: with these very strides, too."""
        if tensor.shape != self.shape or tensor.dtype is not self.dtype:
            return None
        if tensor.stride() == self.strides:
            return tensor
        # Along dims of size 1 nobody steps.
        return self._over(tensor, int(tensor.storage_offset())) if self.fits(tensor) else None

    def _over(self, tensor: torch.Tensor, start: int) -> torch.Tensor:
        """The memory of a tensor under this layout, and for autograd a tensor of its own."""
        typed = torch.empty(0, dtype=self.dtype, device=tensor.device)
        return typed.set_(tensor.untyped_storage(), start, self.shape, self.strides)

    def fits(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor of the right shape has this layout wherever it matters."""
        if tensor.stride() == self.strides:
            return True
        pairs = zip(self.shape, tensor.stride(), self.strides, strict=True)
        return 0 in self.shape or all(n == 1 or a == b for n, a, b in pairs)


UNSTATED = Layout(torch.uint8, (0,), (1,))
"""For what passes between the calls of one op: nothing is said of it, nothing checked."""


def arena_layout(
    program: Program, layouts: Sequence[Layout], device: torch.device
) -> tuple[dict[int, int], int]:
    """Byte offsets of the buffers that live in the arena, and its size.

    Buffers are placed in the plan's order. It was found for the sizes known then: for others,
    the largest first may need less.
    """
    ids, spans = list(program.lifetimes), spans_of(program.lifetimes, layouts)
    alignment = arena_alignment(device)
    position = {id: i for i, id in enumerate(ids)}
    first = [position[id] for id in program.plan.arena_order]
    offsets, total = place_spans(spans, alignment, first)
    if first and program.plan.symbols:
        others, needed = place_spans(spans, alignment)
        if needed < total:
            offsets, total = others, needed
    return dict(zip(ids, offsets, strict=True)), total


def spans_of(lifetimes: Mapping[int, tuple[int, int]], layouts: Sequence[Layout]) -> list[Span]:
    """The memory of buffers over their lifetimes."""
    return [Span(layouts[id].nbytes, *life) for id, life in lifetimes.items()]


def arena_alignment(device: torch.device) -> int:
    """Bytes that each buffer's offset is a multiple of."""
    return 64 if device.type == "cpu" else 512


def distance(view: torch.Tensor, base: torch.Tensor) -> int:
    """Where in the memory of `base` a view of it begins, in elements of the view."""
    start = int(base.storage_offset()) * base.dtype.itemsize
    return int(view.storage_offset()) - start // view.dtype.itemsize


def layout_of(buffer: Buffer, sizes: Mapping[str, int]) -> Layout:
    spec = buffer.spec
    if not spec.dtype:
        return UNSTATED
    return Layout(
        dtype_named(spec.dtype),
        tuple(evaluate(dim, sizes) for dim in spec.shape),
        tuple(evaluate(stride, sizes) for stride in spec.strides),
    )


def fresh_bytes(program: Program, layouts: Sequence[Layout]) -> list[int]:
    """What a call holds outside the arena at each step, and at the end: bytes of outputs and of
    what torch's operators return.
    """
    buffers, steps = program.plan.buffers, program.plan.steps
    seen: set[int] = set()
    now, held = 0, list[int]()
    for index in range(len(steps) + 1):
        made = {id for id in program.create[index] if isinstance(buffers[id].place, OutputPlace)}
        if index < len(steps):
            used = {program.roots[id] for id in touched(steps[index])} - seen
            made |= {id for id in used if isinstance(buffers[id].place, CallPlace)}
            seen |= made
        now += sum(layouts[id].nbytes for id in made)
        held.append(now)
        for id in program.drop[index] if index < len(steps) else ():
            if isinstance(buffers[id].place, CallPlace | OutputPlace):
                now -= layouts[id].nbytes
    return held
