"""`--dynamic`: what it reads, what it makes of it, and what it says where it cannot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from effcomp.cli.dynamic import DynamicSize, dynamic_shapes, parse_dynamic
from effcomp.errors import ConfigError

ARGUMENTS = {"x": torch.ones(3, 4), "more": {"y": [torch.ones(3, 4)]}, "flag": True}


class Sum(nn.Module):
    def forward(self, x: Tensor, more: dict[str, list[Tensor]], flag: bool) -> Tensor:
        return x + more["y"][0] if flag else x


def test_places_share_a_range() -> None:
    assert parse_dynamic(["x:0, more.y.0:0 = 1..64", "x:-1=2.."]) == (
        DynamicSize("x", 0, 1, 64),
        DynamicSize("more.y.0", 0, 1, 64),
        DynamicSize("x", -1, 2, None),
    )


def test_torch_export_takes_what_is_made_of_it() -> None:
    shapes = dynamic_shapes(parse_dynamic(["x:0,more.y.0:0=1..64"]), ARGUMENTS)
    assert set(shapes) == {"x", "more", "flag"}
    program = torch.export.export(Sum(), (), ARGUMENTS, dynamic_shapes=shapes)
    (found,) = program.range_constraints.values()
    assert found.upper == 64
    assert dynamic_shapes((), ARGUMENTS) is None


@pytest.mark.parametrize("text", ["x", "x:0", "x:0=4", "x=1..4", "x:y=1..4", "x:0=a..4", "=1..2"])
def test_what_is_not_of_the_form_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match="is not NAME:DIM"):
        parse_dynamic([text])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x:0=9..4"], "9 is more than 4"),
        (["x:0=1..4", "x:0=1..5"], "names x:0 twice"),
        (["X:0=1..4"], r"takes no tensor 'X'.*It takes: x\[3, 4\], more.y.0\[3, 4\]"),
        (["more:0=1..4"], "takes no tensor 'more'"),
        (["x:2=1..4"], r"x has 2 dims, its shape is \[3, 4\]"),
        (["x:0=4..8"], "the example's size there is 3"),
    ],
)
def test_what_does_not_fit_the_model_says_so(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dynamic_shapes(parse_dynamic(texts), ARGUMENTS)


def test_an_example_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="torch takes sizes of 0 and 1 for fixed"):
        dynamic_shapes(parse_dynamic(["x:0=1..4"]), {"x": torch.ones(1, 4)})
