"""Compiles a zoo model twice over, eager and effcomp, and says how far apart they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effcomp.api import Compilation, recording
from effcomp.explanation import report_of
from effcomp.testing.tolerance import assert_close
from tests.models.zoo import Entry, Inputs

__all__ = ["Pair", "assert_agree", "error_of", "on", "tensors", "unlisted"]

UNMODELLED = Path(__file__).parents[2] / "docs" / "reference" / "unmodelled.md"

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}

Options = Mapping[str, Any]


@dataclass(slots=True)
class Pair:
    """One model built twice, so that state which a call mutates is not shared."""

    entry: Entry
    dtype: torch.dtype
    eager: nn.Module
    compiled: Any
    records: list[Compilation]
    device: torch.device

    @classmethod
    @contextmanager
    def of(
        cls,
        entry: Entry,
        dtype: torch.dtype = torch.float32,
        *,
        options: Options | None = None,
        device: torch.device | str = "cpu",
        mode: str | None = None,
    ) -> Iterator[Pair]:
        """Build both; inside the block every compilation is recorded."""
        compiled = entry.build(dtype, device=device)
        with recording() as records:
            yield cls(
                entry,
                dtype,
                entry.build(dtype, device=device),
                torch.compile(compiled, backend="effcomp", options=options, mode=mode),
                records,
                torch.device(device),
            )

    def inputs(self, **request: Any) -> Inputs:
        return on(self.device, self.entry.inputs(dtype=self.dtype, **request))

    @torch.no_grad()
    def run_eager(self, **request: Any) -> tuple[Tensor, ...]:
        return tensors(self.entry, self.eager(**self.inputs(**request)))

    @torch.no_grad()
    def run(self, **request: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Outputs of both for one request: compiled, eager."""
        actual = tensors(self.entry, self.compiled(**self.inputs(**request)))
        return actual, self.run_eager(**request)


def unlisted(records: Sequence[Compilation]) -> set[str]:
    """Operators that run as `aten.call`s and that the reference does not list."""
    listed = set(re.findall(r"^\| `(\w+\.[\w.]+)` \|", UNMODELLED.read_text(), re.MULTILINE))
    found = {one.target for record in records for one in report_of(record).unmodelled}
    return found - listed


def tensors(entry: Entry, output: Any) -> tuple[Tensor, ...]:
    """The tensors of a model's output that are worth comparing."""
    chosen = entry.output(output)
    return chosen if isinstance(chosen, tuple) else (chosen,)


def on(device: torch.device, value: Any) -> Any:
    """Move a tensor, or every tensor of a dict."""
    match value:
        case Tensor():
            return value.to(device)
        case dict():
            return {key: on(device, item) for key, item in value.items()}
        case _:
            return value


def error_of(actual: Tensor, truth: Tensor) -> float:
    """The norm of the difference over the norm of the truth."""
    scale = truth.double().norm().clamp_min(1e-12)
    return ((actual.double() - truth.double()).norm() / scale).item()


def assert_agree(
    actual: Sequence[Tensor | None],
    expected: Sequence[Tensor | None],
    dtype: torch.dtype,
    truth: Sequence[Tensor] | None = None,
) -> None:
    """Compare what was computed in `dtype` with eager's.

    In 16-bit floats eager is itself some way off: with `truth`, the float32 results, the compiled
    error may exceed eager's by a quarter.
    """
    for index, (mine, theirs) in enumerate(zip(actual, expected, strict=True)):
        what = f"output {index}"
        assert mine is not None, f"{what} is missing"
        assert theirs is not None, f"{what} is not expected"
        if truth is None:
            assert_close(mine, theirs, DTYPES[dtype], what=what)
            continue
        assert mine.shape == theirs.shape, what
        assert mine.dtype == theirs.dtype, what
        error, own = error_of(mine, truth[index]), error_of(theirs, truth[index])
        assert error <= 1.25 * own, f"{what}: error {error:.1e}, eager's {own:.1e}"
