"""A model with arguments to trace it with."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

__all__ = ["Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """What a command works on: a module or an exported program, and one call of it.

    An exported program carries its example arguments itself. `files` are the safetensors files that
    the weights came from, as far as that is known. `mode` is that of tensors without values.
    """

    name: str
    model: nn.Module | ExportedProgram
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: tuple[Path, ...] = ()
    mode: FakeTensorMode | None = None

    def named_arguments(self) -> dict[str, Any]:
        """The arguments of the call by the names of the model's parameters."""
        if isinstance(self.model, ExportedProgram):
            args, kwargs = self.model.example_inputs or ((), {})
            return {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
        signature = inspect.signature(self.model.forward)
        return dict(signature.bind_partial(*self.args, **self.kwargs).arguments)

    @property
    def module(self) -> nn.Module:
        """The model as something that can be called eagerly."""
        model = self.model
        return model.module() if isinstance(model, ExportedProgram) else model

    def call_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments to call `module` with."""
        if isinstance(self.model, ExportedProgram):
            args, kwargs = self.model.example_inputs or ((), {})
            return tuple(args), dict(kwargs)
        return self.args, dict(self.kwargs)
