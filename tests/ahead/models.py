"""Small modules that between them use everything a call and a state can hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

import effcomp

__all__ = ["Counting", "compile_counting", "counting_inputs"]


class Counting(nn.Module):
    """Tied weights, a constant, a buffer that every call writes, nested arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("scale", torch.full((4,), 0.5), persistent=False)
        self.shift = torch.ones(1, 4)

    def forward(
        self, x: Tensor, flag: bool = True, *, more: dict[str, Tensor], times: int = 3
    ) -> dict[str, Any]:
        self.count.add_(1)
        y = self.first(x) * times + self.second(x) * self.scale + self.shift + more["a"]
        return {
            "y": y,
            "none": None,
            "seven": 7,
            "rows": x.shape[0],
            "count": self.count + 0,
            "nested": (x * 2, [y.sum(-1)]),
            "flag": flag,
        }


def counting_inputs(rows: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    made = torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(rows))
    return made[0], {"a": made[1]}


def compile_counting(model: Counting, **options: Any) -> effcomp.CompiledModel:
    """Compiled for 2 to 64 rows, flag=False and times=5."""
    x, more = counting_inputs()
    rows = {0: Dim("rows", min=2, max=64)}
    sizes = {"x": rows, "flag": None, "more": {"a": rows}, "times": None}
    kwargs = {"more": more, "times": 5}
    return effcomp.compile(model, (x, False), kwargs, dynamic_shapes=sizes, **options)
