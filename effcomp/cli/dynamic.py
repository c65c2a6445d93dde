"""`--dynamic x:0=1..64`: which sizes of the inputs may change, as torch.export takes it.

    NAME:DIM[,NAME:DIM ...]=MIN..[MAX]

NAME is an argument of the model, with dots into containers (`cache.keys`, `images.0`); the places
in one option have one range. Which sizes are equal is found by torch.export.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim

from effcomp.cli.tensor_files import flatten
from effcomp.errors import ConfigError, nearest

__all__ = ["DynamicSize", "dynamic_shapes", "parse_dynamic"]

_FORM = "NAME:DIM=MIN..MAX, such as x:0=1..64"
_PLACE = re.compile(r"(?P<name>[\w.]+):(?P<dim>-?\d+)")
_RANGE = re.compile(r"(?P<least>\d+)\.\.(?P<most>\d+)?")


@dataclass(frozen=True, slots=True)
class DynamicSize:
    """Size `dim` of the input `name` may be from `least` to `most` (None: no bound)."""

    name: str
    dim: int
    least: int
    most: int | None

    def __str__(self) -> str:
        return f"{self.name}:{self.dim}={self.least}..{'' if self.most is None else self.most}"


def parse_dynamic(texts: Sequence[str]) -> tuple[DynamicSize, ...]:
    """Read `--dynamic` options. Raises ConfigError."""
    found = tuple(size for text in texts for size in _parse(text))
    places = [(size.name, size.dim) for size in found]
    for place in places:
        if places.count(place) > 1:
            raise ConfigError(f"--dynamic names {place[0]}:{place[1]} twice")
    return found


def _parse(text: str) -> Iterator[DynamicSize]:
    left, equals, right = text.replace(" ", "").partition("=")
    bounds = _RANGE.fullmatch(right)
    if not equals or bounds is None:
        raise ConfigError(f"--dynamic {text!r} is not {_FORM}")
    least, most = int(bounds["least"]), int(bounds["most"]) if bounds["most"] else None
    if most is not None and least > most:
        raise ConfigError(f"--dynamic {text!r}: {least} is more than {most}")
    for part in left.split(","):
        place = _PLACE.fullmatch(part)
        if place is None:
            raise ConfigError(f"--dynamic {text!r}: {part!r} is not NAME:DIM")
        yield DynamicSize(place["name"], int(place["dim"]), least, most)


def dynamic_shapes(sizes: Sequence[DynamicSize], arguments: Mapping[str, Any]) -> Any:
    """What torch.export takes as `dynamic_shapes` for these named arguments.

    Raises ConfigError for inputs and dims that there are not, for an example outside the range, and
    for an example of size 0 or 1, which torch would take for fixed.
    """
    if not sizes:
        return None
    tensors = {name: v for name, v in flatten(arguments) if isinstance(v, torch.Tensor)}
    hints: dict[str, dict[int, Any]] = {}
    for size in sizes:
        if size.name not in tensors:
            shown = ", ".join(f"{name}{list(t.shape)}" for name, t in tensors.items())
            raise ConfigError(
                f"--dynamic: the model takes no tensor {size.name!r}; "
                f"{nearest(size.name, tensors)}. It takes: {shown}"
            )
        dim = _checked(size, tensors[size.name])
        hints.setdefault(size.name, {})[dim] = Dim.DYNAMIC(min=max(size.least, 1), max=size.most)
    return {name: _hinted(value, name, hints) for name, value in arguments.items()}


def _checked(size: DynamicSize, tensor: torch.Tensor) -> int:
    """The dim counted from the front, of a tensor whose size there is an example of the range."""
    shape = tuple(tensor.shape)
    if not -len(shape) <= size.dim < len(shape):
        raise ConfigError(
            f"--dynamic {size}: {size.name} has {len(shape)} dims, its shape is {list(shape)}"
        )
    example = shape[size.dim]
    if example < size.least or (size.most is not None and example > size.most):
        raise ConfigError(f"--dynamic {size}: the example's size there is {example}")
    if example < 2:
        raise ConfigError(
            f"--dynamic {size}: the example's size there is {example}, and torch takes sizes of 0 "
            "and 1 for fixed; give an example of 2 or more"
        )
    return size.dim % len(shape)


def _hinted(value: Any, name: str, hints: Mapping[str, Mapping[int, Any]]) -> Any:
    match value:
        case torch.Tensor():
            return hints.get(name)
        case Mapping():
            return {key: _hinted(inner, f"{name}.{key}", hints) for key, inner in value.items()}
        case tuple() | list():
            return type(value)(
                [_hinted(inner, f"{name}.{i}", hints) for i, inner in enumerate(value)]
            )
        case _:
            return None
