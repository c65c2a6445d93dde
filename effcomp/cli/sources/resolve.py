"""From what stands on the command line to a Source."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map_only

from effcomp.cli.devices import device_named
from effcomp.cli.sources.factories import from_factory
from effcomp.cli.sources.libraries import from_library
from effcomp.cli.sources.source import Source
from effcomp.cli.sources.weightless import in_dtype
from effcomp.cli.tensor_files import nested, read_tensors
from effcomp.dtypes import DTYPES
from effcomp.errors import ConfigError, SourceError, nearest

__all__ = ["resolve"]

FORMS = "MODEL.pt2, MODULE:FACTORY, FILE.py:FACTORY, or --from LIBRARY:PATH"


def resolve(
    model: str | None,
    library: str | None = None,
    *,
    inputs: Path | None = None,
    sizes: Mapping[str, int] | None = None,
    dtype: str | None = None,
    device: str | None = None,
    weights: bool = True,
) -> Source:
    """Load the model that a command names, in eval mode, with arguments to call it.

    `library` is a `--from`; `inputs` a safetensors file of named arguments; `sizes` are for
    arguments that are made up. Without `weights` those of a `--from` are not loaded. Raises
    SourceError and ConfigError.
    """
    if (model is None) == (library is None):
        raise ConfigError(f"name one model: {FORMS}")
    wanted = _dtype(dtype)
    if library is not None:
        source = from_library(library, sizes or {}, wanted, inputs=inputs is None, weights=weights)
    else:
        assert model is not None, "one of the two was given"
        if sizes:
            raise ConfigError("--size is for models that come with --from")
        if model.endswith(".eff"):
            raise ConfigError(
                f"{model} is compiled already: effcomp run, inspect, explain or bench"
            )
        source = _exported(model) if model.endswith(".pt2") else from_factory(model)
    if inputs is not None:
        source = _with_inputs(source, read_tensors(inputs))
    source = _moved(source, wanted, device_named(device) if device else None)
    if not isinstance(source.model, ExportedProgram):
        _check_arguments(source)
    return source


def _exported(path: str) -> Source:
    if not Path(path).is_file():
        raise SourceError(f"there is no file {path}")
    logging.disable(logging.WARNING)  # it logs its failures, tracebacks and all
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{path} is not an exported program, or one of another version of torch: "
            f"{str(error).partition('.')[0]}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return Source(Path(path).stem, program)


def _with_inputs(source: Source, tensors: Mapping[str, torch.Tensor]) -> Source:
    """Named tensors replace the example's, or add to it; constants of the example stay."""
    if isinstance(source.model, ExportedProgram):
        raise ConfigError(
            "an exported program has its example arguments already: leave out --inputs"
        )
    given = nested(tensors)
    known = _parameters(source.model)
    for name in given:
        if known and name not in known:
            raise ConfigError(f"the model takes no argument {name!r}; {nearest(name, known)}")
    named = source.named_arguments()
    kept = {key: value for key, value in named.items() if not _holds_tensors(value)}
    return replace(source, args=(), kwargs={**kept, **given})


def _parameters(module: nn.Module) -> Sequence[str]:
    import inspect

    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return ()
    return [p.name for p in parameters]


def _holds_tensors(value: Any) -> bool:
    leaves = tree_leaves(value)
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves)


def _dtype(name: str | None) -> torch.dtype | None:
    if name is not None and name not in DTYPES:
        raise ConfigError(f"no dtype {name!r}; {nearest(name, DTYPES)}")
    return None if name is None else DTYPES[name]


def _moved(source: Source, dtype: torch.dtype | None, device: torch.device | None) -> Source:
    """The model and its example on a device and as `dtype`, where these are given."""
    if isinstance(source.model, ExportedProgram):
        if dtype is not None or (device is not None and device.type != "cpu"):
            raise ConfigError("an exported program keeps its dtype and device: export it anew")
        return source
    args, kwargs = in_dtype((source.args, dict(source.kwargs)), dtype)
    if source.mode is not None:  # was built in the dtype, and is nowhere
        kwargs = tree_map_only(torch.Tensor, _without_values(source.mode), kwargs)
        return replace(source, kwargs=kwargs)
    # `to` of diffusers' and transformers' classes warns of casts that are meant here.
    model = nn.Module.to(source.model, device=device, dtype=dtype).eval()
    args, kwargs = tree_map_only(torch.Tensor, lambda leaf: leaf.to(device), (args, kwargs))
    return replace(source, model=model, args=args, kwargs=kwargs)


def _without_values(mode: FakeTensorMode) -> Callable[[torch.Tensor], torch.Tensor]:
    """Tensors of a file, for a model whose own have no values."""
    return lambda leaf: leaf if isinstance(leaf, FakeTensor) else mode.from_tensor(leaf)


def _check_arguments(source: Source) -> None:
    """Say which arguments are missing before a trace says it in its own way."""
    import inspect

    assert isinstance(source.model, nn.Module), "programs carry their arguments"
    try:
        inspect.signature(source.model.forward).bind(*source.args, **source.kwargs)
    except TypeError as error:
        takes = ", ".join(_parameters(source.model))
        raise SourceError(
            f"{source.name} cannot be called with its example arguments: {error}; "
            f"it takes: {takes}. "
            "Return arguments from the factory, or give them with --inputs FILE.safetensors"
        ) from None
