"""Goldens of compiled models: a saved model still computes what it did."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from effcomp.dtypes import DTYPE_NAMES
from effcomp.runtime.opening import load
from effcomp.testing.tolerance import assert_close

__all__ = ["run_artifact_golden"]


def run_artifact_golden(
    artifact: str | Path,
    golden: str | Path,
    args: Sequence[torch.Tensor] = (),
    *,
    update: bool = False,
    dtype: str = "",
) -> None:
    """Fail unless a saved model gives, for a golden's inputs, the golden's outputs.

    The golden is a safetensors file of `input.0`, ... and `output.0`, ...; with `update` it is
    written from `args` and what the model gives. The tolerance is that of `dtype` (the narrowest
    that is computed in), else of each output's own.
    """
    __tracebackhide__ = True
    model = load(artifact)
    kept: Mapping[str, torch.Tensor] = {} if update else load_file(golden)
    inputs = list(args) if update else _numbered(kept, "input")
    outputs = _tensors(model(*inputs))
    if update:
        named = {f"input.{i}": t.contiguous() for i, t in enumerate(inputs)}
        named |= {f"output.{i}": t.contiguous() for i, t in enumerate(outputs)}
        save_file(named, golden)
        return
    expected = _numbered(kept, "output")
    assert len(outputs) == len(expected), f"{len(outputs)} outputs, the golden has {len(expected)}"
    for i, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        assert_close(
            found, wanted, dtype or DTYPE_NAMES[wanted.dtype], what=f"output {i} of {artifact}"
        )


def _numbered(tensors: Mapping[str, torch.Tensor], name: str) -> list[torch.Tensor]:
    count = sum(key.startswith(f"{name}.") for key in tensors)
    return [tensors[f"{name}.{i}"] for i in range(count)]


def _tensors(result: Any) -> list[torch.Tensor]:
    """The tensors of a result in order; dicts by their keys' order."""
    match result:
        case torch.Tensor():
            return [result]
        case Mapping():
            return [t for value in result.values() for t in _tensors(value)]
        case list() | tuple():
            return [t for value in result for t in _tensors(value)]
        case _:
            return []
