"""Models from a user's own code: `module.path:factory` and `path/file.py:factory`.

The protocol. What the name stands for is a module, or is called without arguments and returns

- a module, whose arguments then come from `--inputs`,
- `(module, args)`: a tuple or list of positional arguments, a dict of named ones, or one tensor,
- `(module, args, kwargs)`.
"""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

import torch
from torch import nn

from effcomp.cli.sources.source import Source
from effcomp.cli.user_code import load_module
from effcomp.errors import SourceError, nearest

__all__ = ["from_factory"]


def from_factory(text: str) -> Source:
    """The model that `MODULE:NAME` or `FILE.py:NAME` makes. Raises SourceError."""
    where, colon, name = text.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise SourceError(
            f"{text!r} names no model; write MODEL.pt2, MODULE:FACTORY or FILE.py:FACTORY"
        )
    found = _attribute(load_module(where), where, name)
    if isinstance(found, nn.Module):
        return Source(name, found)
    if not callable(found):
        raise SourceError(f"{text} is a {type(found).__name__}, neither a module nor a function")
    try:
        with redirect_stdout(sys.stderr):  # stdout is the command's own
            made = found()
    except Exception as error:
        raise SourceError(f"{text} raised {type(error).__name__}: {error}") from error
    return _source(text, name, made)


def _attribute(module: ModuleType, where: str, name: str) -> Any:
    if not hasattr(module, name):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise SourceError(f"{where} has no {name!r}; {nearest(name, names)}")
    return getattr(module, name)


def _source(text: str, name: str, made: Any) -> Source:
    match made:
        case nn.Module():
            return Source(name, made)
        case (nn.Module() as model, torch.Tensor() as x):
            return Source(name, model, (x,))
        case (nn.Module() as model, Mapping() as kwargs):
            return Source(name, model, (), dict(kwargs))
        case (nn.Module() as model, (tuple() | list()) as args):
            return Source(name, model, tuple(args))
        case (nn.Module() as model, (tuple() | list()) as args, Mapping() as kwargs):
            return Source(name, model, tuple(args), dict(kwargs))
        case _:
            raise SourceError(
                f"{text} returned a {type(made).__name__}; a factory returns a module, "
                "(module, args) or (module, args, kwargs)"
            )
