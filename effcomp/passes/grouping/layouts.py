"""Which views memory can show: strides followed through views."""

from itertools import pairwise

from effcomp.ir import Dim, Op, Value, attr
from effcomp.ir.dims import contiguous_strides
from effcomp.passes.grouping.rows import matching_blocks
from effcomp.passes.grouping.sizes import is_equal, numel

Strides = tuple[Dim, ...]


class Layouts:
    """Strides of the views of one graph, as far as they were followed."""

    def __init__(self) -> None:
        self._strides: dict[Value, Strides | None] = {}

    def follow(self, view: Op) -> bool:
        """Note a view's layout; False if only a copy can show it."""
        x = view.operands[0]
        known = self._strides.get(x, x.strides or contiguous_strides(x.shape))
        found = None if known is None else _strides(view, known)
        # A copy is row-major where it states nothing else.
        stated = view.result.strides or contiguous_strides(view.result.shape)
        self._strides[view.result] = found or stated
        return found is not None

    def of(self, view: Value) -> Strides | None:
        """The layout of a view that was followed."""
        return self._strides.get(view)


def _strides(op: Op, strides: Strides) -> Strides | None:
    old, new = op.operands[0].shape, op.result.shape
    match op.name:
        case "tensor.permute":
            dims: tuple[int, ...] = attr(op, "dims")
            return tuple(strides[d] for d in dims)
        case "tensor.slice":
            at, step = attr(op, "dim"), attr(op, "step")
            return tuple(
                numel((s, step)) if i == at % len(old) else s for i, s in enumerate(strides)
            )
        case "tensor.broadcast":
            lead = len(new) - len(old)
            kept = zip(old, new[lead:], strides, strict=True)
            return (*(0,) * lead, *(s if a == b else 0 for a, b, s in kept))
        case "tensor.reshape":
            return _reshaped(old, strides, new)
        case _:
            return None


def _reshaped(old: tuple[Dim, ...], strides: Strides, new: tuple[Dim, ...]) -> Strides | None:
    """Strides of a reshape: every block of dims that are joined has to lie dense in itself."""
    out: list[Dim] = []
    for before, after in matching_blocks(old, new):
        wide = [i for i in before if old[i] != 1]
        for i, j in pairwise(wide):
            if not is_equal(strides[i], numel((strides[j], old[j]))):
                return None
        step = strides[wide[-1]] if wide else 1
        inner = (numel((step, s)) for s in contiguous_strides([new[i] for i in after]))
        out += inner
    return tuple(out)
