"""Models of diffusers and transformers: `--from diffusers:PATH#component`, `transformers:PATH`."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from effcomp.cli.sources.example_inputs import example_inputs
from effcomp.cli.sources.source import Source
from effcomp.errors import ConfigError, SourceError, nearest

__all__ = ["from_library"]


def from_library(text: str, sizes: Mapping[str, int], *, make_inputs: bool) -> Source:
    """The model that `LIBRARY:PATH#COMPONENT` names. Raises SourceError and ConfigError.

    PATH is a folder that from_pretrained reads, or a name on the Hugging Face hub.
    """
    library, colon, rest = text.partition(":")
    path, _, component = rest.partition("#")
    if not colon or not path or library not in _LOADERS:
        hint = "" if library in _LOADERS else f"; {nearest(library, _LOADERS)}"
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
    if not sys.stderr.isatty():
        importlib.import_module(f"{library}.utils.logging").disable_progress_bar()
    model = _LOADERS[library](path, component)
    name = component or Path(path).name
    kwargs = example_inputs(model, sizes) if make_inputs else {}
    folder = Path(path) / component if library == "diffusers" else Path(path)
    return Source(name, model, (), kwargs, tuple(sorted(folder.glob("*.safetensors"))))


def _diffusers(path: str, component: str) -> nn.Module:
    from diffusers import AutoModel, DiffusionPipeline

    index = Path(path) / "model_index.json"
    if not component and index.is_file():
        raise SourceError(f"{path} is a whole pipeline; {_components(path, _parts(index))}")
    if not component:
        return _pretrained(AutoModel.from_pretrained, path)
    if Path(path).is_dir():
        if not index.is_file():
            raise SourceError(f"{path} is no pipeline: it has no model_index.json; leave #... out")
        parts = _parts(index)
    else:
        parts = _pretrained(DiffusionPipeline.load_config, path)
    if not _is_part(parts.get(component)):
        raise SourceError(f"{path} has no model {component!r}; {_components(path, parts)}")
    library, kind = parts[component]
    loader = getattr(importlib.import_module(library), kind)
    return _pretrained(loader.from_pretrained, path, subfolder=component)


def _parts(index: Path) -> dict[str, Any]:
    try:
        return json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{index} is not JSON: {error}") from error


def _is_part(entry: Any) -> bool:
    match entry:
        case [str() as library, str()]:
            return library in _LOADERS
        case _:
            return False


def _components(path: str, parts: Mapping[str, Any]) -> str:
    names = [name for name, entry in parts.items() if _is_part(entry)]
    return f"choose a model of it, such as {path}#{names[0]} ({', '.join(names)})" if names else ""


def _transformers(path: str, component: str) -> nn.Module:
    import transformers

    if component:
        raise ConfigError("a transformers model has no components: leave #... out")
    config = _pretrained(transformers.AutoConfig.from_pretrained, path)
    kinds = getattr(config, "architectures", None) or ()
    kind = getattr(transformers, kinds[0], None) if kinds else None
    loader = kind or transformers.AutoModel
    return _pretrained(loader.from_pretrained, path)


def _pretrained(load: Callable[..., Any], path: str, **options: Any) -> Any:
    """What a library's from_pretrained returns; whatever it raises names the path."""
    try:
        return load(path, **options)
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise SourceError(f"cannot load a model from {path}: {text}") from error


_LOADERS: Mapping[str, Callable[[str, str], nn.Module]] = {
    "diffusers": _diffusers,
    "transformers": _transformers,
}
