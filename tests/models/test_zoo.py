"""The zoo itself: its models run, say something, and are the same whenever they are built."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.zoo import ZOO, Entry

ENTRIES = [pytest.param(entry, id=name) for name, entry in ZOO.items()]


def _run(entry: Entry, dtype: torch.dtype = torch.float32, **request: object) -> list[Tensor]:
    model = entry.build(dtype)
    with torch.no_grad():
        output = entry.output(model(**entry.inputs(dtype=dtype, **request)))
    return list(output) if isinstance(output, tuple) else [output]


@pytest.mark.parametrize("entry", ENTRIES)
def test_two_builds_say_the_same(entry: Entry) -> None:
    for one, other in zip(_run(entry), _run(entry), strict=True):
        assert torch.equal(one, other)
        assert one.isfinite().all()
        assert one.std() > 0.01, "a model that says nothing hides errors"


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_changed_size_runs(entry: Entry) -> None:
    for tensor in _run(entry, size="changed"):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("entry", ENTRIES)
def test_bfloat16_stays_near(entry: Entry) -> None:
    for exact, low in zip(_run(entry), _run(entry, torch.bfloat16), strict=True):
        error = (low.float() - exact).norm() / exact.norm()
        assert error < 0.2, f"relative error {error:.2f}"


@pytest.mark.parametrize("entry", ENTRIES)
def test_samples_of_a_batch_differ(entry: Entry) -> None:
    for tensor in _run(entry):
        assert not torch.allclose(tensor[0], tensor[-1])
