"""Compiled functions through the whole of effcomp: on a CPU, and a GPU's plan simulated there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import effcomp
from tests.runtime.plans import plan

TARGETS = pytest.mark.parametrize("target", [None, "cuda:90"])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def compiled(model, target: str | None, **options):
    options = {"target": target, "cache": False, **options}
    return torch.compile(model, backend=effcomp.backend, options=options)


@TARGETS
def test_inference_with_changing_sizes(target: str | None) -> None:
    model = Block()
    run = compiled(model, target)
    kept = []
    with torch.no_grad():
        for rows in (3, 5, 4, 9):
            x = torch.randn(2, rows, 16)
            kept.append((run(x), model(x)))
    for got, want in kept:
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@TARGETS
def test_gradients(target: str | None) -> None:
    model = Block()
    x = torch.randn(4, 16, requires_grad=True)
    leaves = (x, *model.parameters())
    want = torch.autograd.grad(model(x).square().sum(), leaves)
    got = torch.autograd.grad(compiled(model, target)(x).square().sum(), leaves)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@TARGETS
def test_weights_may_change_between_calls(target: str | None) -> None:
    model = Block()
    run = compiled(model, target)
    x = torch.randn(4, 16)
    with torch.no_grad():
        run(x)
        for parameter in model.parameters():
            parameter.mul_(0.5)
        torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)
        model.up.weight = nn.Parameter(torch.randn(32, 16))
        torch.testing.assert_close(run(x), model(x), rtol=1e-4, atol=1e-5)


@TARGETS
def test_a_cache_is_written_in_place(target: str | None) -> None:
    def step(cache: torch.Tensor, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        cache.index_copy_(1, at, x)
        return cache.sum(1)

    run = compiled(step, target)
    mine, theirs = torch.zeros(2, 8, 4), torch.zeros(2, 8, 4)
    for position in range(4):
        x, at = torch.randn(2, 1, 4), torch.tensor([position])
        torch.testing.assert_close(run(mine, x, at), step(theirs, x, at))
        torch.testing.assert_close(mine, theirs)


def test_an_empty_plan() -> None:
    from effcomp.runtime import load

    run = load(plan(ports=[], buffers=[], steps=[], outputs=[]), torch.device("cpu"))
    assert run([]) == []
