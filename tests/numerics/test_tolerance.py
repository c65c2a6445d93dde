"""The tolerance table, and what a failed comparison says."""

import math

import pytest
import torch

from effcomp.ir.types import ITEMSIZE
from effcomp.testing.tolerance import TOLERANCE, assert_close, narrowest, relative_error


def test_every_dtype_has_a_tolerance() -> None:
    assert set(TOLERANCE) == set(ITEMSIZE)


def test_the_message_shows_the_error_and_the_place() -> None:
    expected = torch.ones(2, 3)
    actual = expected.clone()
    actual[1, 2] = 1.5
    with pytest.raises(AssertionError, match=r"out: relative error 0\.25 .* \(1, 2\): 1\.5"):
        assert_close(actual, expected, "f32", what="out")


def test_small_values_are_judged_by_the_scale_of_the_tensor() -> None:
    expected = torch.tensor([1.0, 0.0])
    assert_close(expected + 1e-6, expected, "f32")
    with pytest.raises(AssertionError):
        assert_close(expected + 1e-3, expected, "f32")


def test_what_is_not_finite_has_to_agree() -> None:
    expected = torch.tensor([1.0, math.inf, -math.inf, math.nan])
    assert relative_error(expected, expected) == 0
    for wrong in ([1.0, 1.0, -math.inf, math.nan], [math.nan, math.inf, -math.inf, math.nan]):
        assert relative_error(torch.tensor(wrong), expected) == math.inf


def test_integers_shapes_and_dtypes_are_exact() -> None:
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(torch.tensor([1000, 2]), torch.tensor([1001, 2]), "i64")
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.ones(1), torch.ones(()), "f32")
    with pytest.raises(AssertionError, match="dtype"):
        assert_close(torch.ones(1).double(), torch.ones(1), "f32")
    assert_close(torch.ones(0), torch.ones(0), "f32")


def test_narrowest() -> None:
    assert narrowest("f32", "bf16", "i64") == "bf16"
