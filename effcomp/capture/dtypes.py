"""torch dtypes as the IR spells them, and torch's rule for the dtype of mixed operands."""

from collections.abc import Sequence

import torch

from effcomp.dtypes import DTYPE_NAMES, DTYPES
from effcomp.errors import CaptureError
from effcomp.ir import Value
from effcomp.ir.types import FLOATS

COMPLEX = frozenset({"c64", "c128"})


def name_of(dtype: torch.dtype) -> str:
    """The IR's name of a dtype. Raises CaptureError for one that the IR lacks."""
    if dtype not in DTYPE_NAMES:
        raise CaptureError(f"effcomp has no dtype {dtype}; keep such tensors outside the model")
    return DTYPE_NAMES[dtype]


def is_inexact(dtype: str) -> bool:
    return dtype in FLOATS or dtype in COMPLEX


def common_dtype(operands: Sequence[object]) -> str:
    """The dtype that torch computes in for these operands (values, Python numbers, sizes).

    Tensors with dims come first; then tensors of rank 0; then Python numbers: what comes later
    only counts if it is of a higher kind (bool < integer < float < complex).
    """
    ranked: torch.dtype | None = None
    scalar: torch.dtype | None = None
    number: torch.dtype | None = None
    for operand in operands:
        match operand:
            case Value() if operand.tensor.rank:
                ranked = _promote(ranked, DTYPES[operand.dtype])
            case Value():
                scalar = _promote(scalar, DTYPES[operand.dtype])
            case _:
                number = _promote(number, _dtype_of_number(operand))
    found = _by_kind(ranked, _by_kind(scalar, number))
    assert found is not None, "promotion needs an operand"
    return name_of(found)


def _promote(a: torch.dtype | None, b: torch.dtype) -> torch.dtype:
    return b if a is None else torch.promote_types(a, b)


def _dtype_of_number(number: object) -> torch.dtype:
    if isinstance(number, bool):
        return torch.bool
    if isinstance(number, float):
        return torch.get_default_dtype()
    if isinstance(number, complex):
        return torch.complex128 if torch.get_default_dtype() is torch.float64 else torch.complex64
    return torch.int64  # an int, or a size


def _by_kind(higher: torch.dtype | None, lower: torch.dtype | None) -> torch.dtype | None:
    """ATen's combine_categories: `lower` counts only where it is of a higher kind."""
    if higher is None or lower is None:
        return lower if higher is None else higher
    if higher.is_complex:
        return higher
    if higher.is_floating_point:
        return torch.promote_types(higher, torch.complex32) if lower.is_complex else higher
    if higher is torch.bool or lower.is_floating_point or lower.is_complex:
        return torch.promote_types(higher, lower)
    return higher
