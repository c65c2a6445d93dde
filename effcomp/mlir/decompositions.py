"""ATen calls that torch-mlir would take and make a poor thing of, said in simpler ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECOMPOSITIONS"]
aten = torch.ops.aten


def _empty_strided(size: Sequence[Any], stride: Sequence[Any], **kwargs: Any) -> Tensor:
    """empty_strided(size, stride) => empty(size): a tensor of MLIR has no strides."""
    del stride
    return torch.empty(size, **kwargs)


def _var_mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[Tensor, Tensor]:
    """var_mean(x) => mean((x - mean(x))^2), mean(x), in float32: torch-mlir takes to float64."""
    if x.is_complex():
        return NotImplemented
    dims = list(dim) if dim else list(range(x.ndim))
    wide = x if x.dtype == torch.float64 else x.float()
    mean = wide.mean(dims, keepdim=True)
    count = math.prod(x.shape[d] for d in dims) - (1 if correction is None else correction)
    squares = (wide - mean).square().sum(dims, keepdim=keepdim)
    return (squares / count).to(x.dtype), wide.mean(dims, keepdim=keepdim).to(x.dtype)


def _compared(compare: Any) -> Callable[[Tensor, float], Tensor]:
    """x == 0.5 => x == full((), 0.5), in x's dtype: torch-mlir compares with numbers in float64."""

    def decomposed(x: Tensor, other: float) -> Tensor:
        if not x.is_floating_point():
            return NotImplemented
        return compare(x, torch.full((), other, dtype=x.dtype, device=x.device))

    return decomposed


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    aten.empty_strided.default: _empty_strided,
    aten.var_mean.correction: _var_mean,
    aten.eq.Scalar: _compared(aten.eq.Tensor),
    aten.ge.Scalar: _compared(aten.ge.Tensor),
    aten.gt.Scalar: _compared(aten.gt.Tensor),
    aten.le.Scalar: _compared(aten.le.Tensor),
    aten.lt.Scalar: _compared(aten.lt.Tensor),
    aten.ne.Scalar: _compared(aten.ne.Tensor),
}
