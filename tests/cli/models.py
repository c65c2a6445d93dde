"""Models that the commands' tests name as FILE.py:FACTORY."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """A block with a norm, two products and a residual."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Sums(nn.Module):
    """Takes and returns containers, and looks numbers up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 8)

    def forward(self, tokens: Tensor, cache: dict[str, list[Tensor]]) -> dict[str, Any]:
        looked_up = self.table(tokens)
        return {"sum": looked_up + cache["keys"][0], "parts": (looked_up, cache["keys"][0] * 2)}


def mlp() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return Mlp(), (torch.randn(4, 6, 16),)


def sums() -> tuple[nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    return Sums(), {"tokens": torch.tensor([1, 2]), "cache": {"keys": [torch.ones(2, 8)]}}


def counting() -> tuple[nn.Module, Tensor]:
    """An op that the IR does not model."""

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.histc(x, 4) + 1

    return Counting(), torch.randn(5)


def untraceable() -> tuple[nn.Module, Tensor]:
    class Untraceable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum().item() > 0 else x - 1

    return Untraceable(), torch.ones(3)
