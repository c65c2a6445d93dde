"""Tensors by name in safetensors files: inputs that commands read, outputs that they write."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from effcomp.cli.console import written_aside
from effcomp.errors import SourceError

__all__ = ["flatten", "nested", "read_tensors", "write_tensors"]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a file, by name. Raises SourceError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path} cannot be read as safetensors: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors to a file, whole or not at all."""
    from safetensors.torch import save

    with written_aside(path) as aside:
        aside.write_bytes(save({name: t.contiguous().clone() for name, t in tensors.items()}))


def nested(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.x": 1, "a.y": 2}` as `{"a": {"x": 1, "y": 2}}`; keys 0, 1, ... make a list."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        *path, last = name.split(".")
        at = tree
        for key in path:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise SourceError(f"{name} lies inside {key!r}, which is a tensor")
        if isinstance(at.get(last), dict):
            raise SourceError(f"{name} is a tensor, and holds others")
        at[last] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    made = {key: _listed(inner) for key, inner in value.items()}
    numbers = [str(i) for i in range(len(made))]
    return [made[number] for number in numbers] if sorted(made) == sorted(numbers) else made


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested containers with dotted names: what `nested` reads again."""
    match value:
        case Mapping():
            children = [(str(key), inner) for key, inner in value.items()]
        case tuple() | list():
            children = [(str(i), inner) for i, inner in enumerate(value)]
        case _ if is_dataclass(value) and not isinstance(value, type):
            children = [(f.name, getattr(value, f.name)) for f in fields(value)]
        case _:
            yield name, value
            return
    for key, inner in children:
        yield from flatten(inner, f"{name}.{key}" if name else key)
