"""Models of diffusers and transformers: `--from diffusers:PATH#component`, `transformers:PATH`."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from effcomp.cli.sources.example_inputs import example_inputs
from effcomp.cli.sources.source import Source
from effcomp.cli.sources.weightless import in_dtype, without_values
from effcomp.errors import ConfigError, SourceError, nearest

__all__ = ["from_library"]

_LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a library finds a model: a folder or a hub name, and the component of a pipeline."""

    library: str
    path: str
    component: str

    @property
    def folder(self) -> Path:
        return Path(self.path) / self.component

    @property
    def options(self) -> dict[str, str]:
        """What from_pretrained and load_config take besides the path."""
        return {"subfolder": self.component} if self.component else {}


def from_library(
    text: str,
    sizes: Mapping[str, int],
    dtype: torch.dtype | None,
    *,
    inputs: bool,
    weights: bool,
) -> Source:
    """The model that `LIBRARY:PATH#COMPONENT` names, and arguments of these sizes for it.

    PATH is a folder that from_pretrained reads, or a name on the Hugging Face hub. Without
    `weights` only its configuration is read: tensors then have shapes and dtypes, but no values.
    Raises SourceError and ConfigError.
    """
    place = _place(text)
    kind = _class(place)
    if weights:
        if not sys.stderr.isatty():
            importlib.import_module(f"{place.library}.utils.logging").disable_progress_bar()
        model = _attempt(place.path, lambda: kind.from_pretrained(place.path, **place.options))
        files = tuple(sorted(place.folder.glob("*.safetensors")))
        return Source(place.folder.name, model, (), _inputs(model, sizes, inputs), files)
    config = _config(place, kind)
    with without_values(dtype or getattr(config, "dtype", None) or torch.float32) as mode:
        model = _attempt(place.path, lambda: _built(kind, config))
        kwargs = in_dtype(_inputs(model, sizes, inputs), torch.get_default_dtype())
    return Source(place.folder.name, model.eval(), (), kwargs, (), mode)


def _inputs(model: nn.Module, sizes: Mapping[str, int], wanted: bool) -> dict[str, Any]:
    return example_inputs(model, sizes) if wanted else {}


def _place(text: str) -> Place:
    library, colon, rest = text.partition(":")
    path, _, component = rest.partition("#")
    if not colon or not path or library not in _LIBRARIES:
        hint = "" if library in _LIBRARIES else f"; {nearest(library, _LIBRARIES)}"
        raise ConfigError(
            f"--from {text!r} is not LIBRARY:PATH, such as diffusers:PATH#transformer{hint}"
        )
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise SourceError(
            f"--from {library}: needs {library}, which cannot be imported ({error}); "
            'pip install "effcomp[models]"'
        ) from error
    if Path(path).is_file() or (path.startswith((".", "/", "~")) and not Path(path).is_dir()):
        raise SourceError(f"{path} is not a folder that {library} can load a model from")
    return Place(library, path, component)


# Which class it is of.


def _class(place: Place) -> Any:
    if place.library == "transformers":
        if place.component:
            raise ConfigError("a transformers model has no components: leave #... out")
        return _transformers_class(place.path)
    index = Path(place.path) / "model_index.json"
    if place.component:
        return _component_class(place, index)
    if index.is_file():
        parts = _read_json(index)
        raise SourceError(f"{place.path} is a whole pipeline; {_components(place.path, parts)}")
    config = _config(place, importlib.import_module("diffusers").UNet2DModel)
    return _named_class("diffusers", str(config.get("_class_name")), place.path)


def _component_class(place: Place, index: Path) -> Any:
    import diffusers

    if not Path(place.path).is_dir():
        parts = _attempt(place.path, lambda: diffusers.DiffusionPipeline.load_config(place.path))
    elif index.is_file():
        parts = _read_json(index)
    else:
        raise SourceError(
            f"{place.path} is no pipeline: it has no model_index.json; leave #... out"
        )
    match parts.get(place.component):
        case [str() as library, str() as name] if library in _LIBRARIES:
            return _named_class(library, name, place.path)
        case _:
            raise SourceError(
                f"{place.path} has no model {place.component!r}; {_components(place.path, parts)}"
            )


def _transformers_class(path: str) -> Any:
    import transformers

    config = _attempt(path, lambda: transformers.AutoConfig.from_pretrained(path))
    names = getattr(config, "architectures", None) or ("no architecture",)
    return _named_class("transformers", names[0], path)


def _named_class(library: str, name: str, path: str) -> Any:
    found = getattr(importlib.import_module(library), name, None)
    if found is None:
        raise SourceError(f"{path} is of {name}, which this version of {library} does not have")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: {error}") from error


def _components(path: str, parts: Mapping[str, Any]) -> str:
    """What can stand behind the #."""
    names = [
        name for name, entry in parts.items() if isinstance(entry, list) and entry[0] in _LIBRARIES
    ]
    return f"choose a model of it, such as {path}#{names[0]} ({', '.join(names)})" if names else ""


# Its configuration, and itself.


def _config(place: Place, kind: Any) -> Any:
    """A dict of diffusers', an object of transformers'."""
    if hasattr(kind, "load_config"):
        return _attempt(place.path, lambda: kind.load_config(place.path, **place.options))
    return _attempt(
        place.path, lambda: kind.config_class.from_pretrained(place.path, **place.options)
    )


def _built(kind: Any, config: Any) -> nn.Module:
    """A model of this configuration; nothing is drawn for weights that have no values."""
    if hasattr(kind, "load_config"):
        return kind.from_config(config)
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = kind(config)
    model.tie_weights()  # a part of what was left out
    return model


def _attempt(path: str, load: Callable[[], Any]) -> Any:
    """What a library returns; whatever it raises names the path."""
    try:
        return load()
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise SourceError(f"cannot load a model from {path}: {text}") from error
