"""How far two results may differ, by the dtype that was computed in. There is no default.

The error of an element is |actual - expected| / (|expected| + max(rms(expected), scale)): relative
for what is large, not inflated by elements that cancelled to almost nothing. `scale` is the size of
what the result was computed from, for results that may cancel as a whole.
"""

import math

import torch

# Largest error of an element, after a chain of some tens of ops. A rounding step is 2**-53 in f64,
# 2**-24 in f32, 2**-11 in f16, 2**-8 in bf16, 2**-4 in f8e4m3, 2**-3 in f8e5m2.
TOLERANCE = {
    "f64": 1e-10,
    "f32": 3e-5,
    "f16": 8e-3,
    "bf16": 4e-2,
    "f8e4m3": 1.5e-1,
    "f8e5m2": 3e-1,
    "c128": 1e-10,
    "c64": 3e-5,
    "i64": 0.0,
    "u64": 0.0,
    "i32": 0.0,
    "i16": 0.0,
    "i8": 0.0,
    "u8": 0.0,
    "bool": 0.0,
}


def relative_errors(
    actual: torch.Tensor, expected: torch.Tensor, scale: float = 0.0
) -> torch.Tensor:
    """The error of each element; infinite where one is NaN or infinite and the other differs."""
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, e = actual.detach().cpu().to(wide), expected.detach().cpu().to(wide)
    finite = torch.isfinite(e)
    sane = e[finite].abs()
    rms = float(sane.square().mean().sqrt()) if sane.numel() else 0.0
    difference = (a - e).abs()
    errors = torch.where(difference == 0, 0.0, difference / (e.abs() + max(rms, scale)))
    alike = (a == e) | (torch.isnan(a) & torch.isnan(e))
    return torch.where(alike, 0.0, torch.where(finite & torch.isfinite(a), errors, math.inf))


def relative_error(actual: torch.Tensor, expected: torch.Tensor, scale: float = 0.0) -> float:
    """The largest error of an element."""
    return float(relative_errors(actual, expected, scale).max()) if expected.numel() else 0.0


def assert_close(
    actual: torch.Tensor,
    expected: torch.Tensor,
    dtype: str,
    *,
    what: str = "result",
    scale: float = 0.0,
) -> None:
    """Fail unless shape and dtype agree and every error is within the tolerance of `dtype`.

    `dtype` is the IR's name of the narrowest dtype that was computed in.
    """
    assert actual.shape == expected.shape, (
        f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    )
    assert actual.dtype == expected.dtype, (
        f"{what}: dtype {actual.dtype}, expected {expected.dtype}"
    )
    error = relative_error(actual, expected, scale)
    if error <= TOLERANCE[dtype]:
        return
    errors = relative_errors(actual, expected, scale).flatten()
    worst = int(errors.argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), expected.shape))
    wrong = int((errors > TOLERANCE[dtype]).sum())
    raise AssertionError(
        f"{what}: relative error {error:.3g} exceeds {TOLERANCE[dtype]:.3g} ({dtype}); "
        f"{wrong} of {errors.numel()} elements are off, the worst at {index}: "
        f"{actual[index].item()!r}, expected {expected[index].item()!r}"
    )


def narrowest(*dtypes: str) -> str:
    """The dtype whose tolerance bounds a computation in all of these."""
    return max(dtypes, key=TOLERANCE.__getitem__)
