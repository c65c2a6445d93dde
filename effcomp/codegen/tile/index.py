"""Index maps: which element of an operand a view's element is."""

from collections.abc import Sequence
from typing import Any

import sympy

from effcomp.ir import Dim, Op, attr
from effcomp.ir.dims import FloorDiv, Mod, contiguous_strides, product, same
from effcomp.ir.ops.infer import axis

Index = tuple[Any, ...]  # one position (a sympy expression) a dim
ZERO = sympy.Integer(0)
TYPICAL_SIZE = 512
FAR = 2**62  # beyond any position


def expr(value: Any) -> Any:
    """A size or position as a sympy expression."""
    return sympy.sympify(value)


def flatten(index: Sequence[Any], shape: Sequence[Dim]) -> Any:
    """The row-major position of an element."""
    return offset_of(index, contiguous_strides(shape))


def offset_of(index: Sequence[Any], strides: Sequence[Dim]) -> Any:
    """Where an element lies, in elements from the first."""
    return sympy.Add(*(i * s for i, s in zip(index, strides, strict=True)))


def unflatten(position: Any, shape: Sequence[Dim]) -> Index:
    """The element at a row-major position, inverse of `flatten`."""
    found: list[Any] = []
    wide = [k for k, size in enumerate(shape) if size != 1]
    for k, (size, stride) in enumerate(zip(shape, contiguous_strides(shape), strict=True)):
        if size == 1:
            found.append(ZERO)
            continue
        whole = FloorDiv(position, expr(stride))
        found.append(whole if k == wide[0] else Mod(whole, expr(size)))
    return tuple(found)


def memory_order(strides: Sequence[Dim]) -> tuple[int, ...]:
    """The dims from the one with the longest steps to the one whose neighbours touch.

    Sizes with a name are taken for a typical one. Dims that never step come first.
    """

    def step(d: int) -> int:
        found = expr(strides[d])
        return abs(int(found.subs(dict.fromkeys(found.free_symbols, TYPICAL_SIZE))))

    return tuple(sorted(range(len(strides)), key=lambda d: -step(d) if step(d) else -FAR))


def unflatten_in(position: Any, shape: Sequence[Dim], order: Sequence[int]) -> Index:
    """The element at a position counted with the last dim of `order` fastest."""
    found = unflatten(position, [shape[d] for d in order])
    return tuple(i for _, i in sorted(zip(order, found, strict=True), key=lambda pair: pair[0]))


def reshape_index(index: Index, new: Sequence[Dim], old: Sequence[Dim]) -> Index:
    """The element of shape `old` that stands at `index` of shape `new`, row-major order kept.

    Works through the smallest runs of dims that hold equally many elements, so that dims a reshape
    leaves alone keep their positions untouched.
    """
    found: list[Any] = []
    for new_run, old_run in _runs(new, old):
        sizes = [new[k] for k in new_run]
        position = flatten([index[k] for k in new_run], sizes)
        found += unflatten(position, [old[k] for k in old_run])
    return tuple(found)


def _runs(new: Sequence[Dim], old: Sequence[Dim]) -> list[tuple[range, range]]:
    """Split two shapes of equal size into runs of dims of equal size."""
    runs: list[tuple[range, range]] = []
    i = j = 0
    while i < len(new) or j < len(old):
        start_i, start_j = i, j
        i, j = _next_cut(new, old, i, j)
        runs.append((range(start_i, i), range(start_j, j)))
    return runs


def _next_cut(new: Sequence[Dim], old: Sequence[Dim], i: int, j: int) -> tuple[int, int]:
    """The nearest (i', j') at which as many elements of both lie behind."""
    for total in range(1, len(new) - i + len(old) - j + 1):
        for taken in range(total + 1):
            a, b = i + taken, j + total - taken
            if a > len(new) or b > len(old) or (a == len(new)) != (b == len(old)):
                continue
            if same(product(new[i:a]), product(old[j:b])):
                return a, b
    return len(new), len(old)


def broadcast_index(index: Index, shape: Sequence[Dim]) -> Index:
    """The element of a tensor of `shape` that numpy's broadcasting puts at `index`."""
    tail = index[len(index) - len(shape) :]
    return tuple(ZERO if size == 1 else i for i, size in zip(tail, shape, strict=True))


def permute_index(index: Index, dims: Sequence[int]) -> Index:
    """Result dim i is operand dim dims[i]."""
    found: list[Any] = [ZERO] * len(dims)
    for i, d in enumerate(dims):
        found[d] = index[i]
    return tuple(found)


def replaced(index: Index, dim: int, position: Any) -> Index:
    return (*index[:dim], position, *index[dim + 1 :])


def viewed_at(op: Op, index: Index) -> Index | None:
    """The operand's element that a view shows at `index`; None where the op is no view."""
    match op.name:
        case "tensor.reshape":
            return reshape_index(index, op.result.shape, op.operands[0].shape)
        case "tensor.permute":
            return permute_index(index, attr(op, "dims"))
        case "tensor.broadcast":
            return broadcast_index(index, op.operands[0].shape)
        case "tensor.slice":
            d = axis(attr(op, "dim"), len(index))
            return replaced(index, d, attr(op, "start") + index[d] * attr(op, "step"))
        case "tensor.flip":
            for d in attr(op, "dims"):
                d = axis(d, len(index))
                index = replaced(index, d, op.result.shape[d] - 1 - index[d])
            return index
        case "tensor.copy":
            return index
        case _:
            return None
