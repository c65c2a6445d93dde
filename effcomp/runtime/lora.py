"""Low-rank adapters: files of PEFT, diffusers and kohya as changes of a model's weights.

A pair A (rank x in), B (out x rank) changes a weight to  W + scale * alpha / rank * B A; without an
alpha, alpha is the rank. Kernels of convolutions are flattened to matrices.
"""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from effcomp.errors import ArtifactError
from effcomp.plan.manifest import WeightEntry
from effcomp.runtime.mapping import MappedFile
from effcomp.runtime.weights import listed

__all__ = ["Change", "LoraSource", "changes_of", "merged"]

LoraSource = Mapping[str, torch.Tensor] | str | pathlib.Path
"""An adapter: tensors by name, a safetensors file, or a folder that PEFT saved."""

# The pair's two halves as the libraries spell them; an adapter's name may stand in between.
_HALVES = re.compile(
    r"(?P<module>.+?)[._](?:(?P<a>lora_A|lora_down|lora\.down)|(?P<b>lora_B|lora_up|lora\.up))"
    r"(?:\.[\w-]+)?\.weight"
)
_ALPHA = re.compile(r"(?P<module>.+?)(?:\.lora_[AB])?\.alpha")
_PREFIXES = ("base_model.model.", "transformer.", "unet.", "diffusion_model.", "model.")
_METADATA = "lora_adapter_metadata"  # diffusers' key in a safetensors header
_KOHYA = ("lora_unet_", "lora_transformer_", "lora_te_")


@dataclass(frozen=True, slots=True)
class Change:
    """What an adapter adds to one weight: `factor` * b a."""

    a: torch.Tensor
    b: torch.Tensor
    factor: float


@dataclass(slots=True)
class _Half:
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    """What PEFT's configuration says of scaling."""

    alpha: float | None = None
    alphas: tuple[tuple[re.Pattern[str], float], ...] = ()  # by patterns of how names end
    rank_stabilized: bool = False

    def factor(self, module: str, rank: int, own: float | None) -> float:
        alpha = own
        if alpha is None:
            special = (value for ends, value in self.alphas if ends.fullmatch(module))
            alpha = next(special, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def changes_of(source: LoraSource, entries: Mapping[str, WeightEntry]) -> dict[str, Change]:
    """What an adapter changes, by the names of the weights. Raises ArtifactError.

    Every name in the adapter has to belong to a weight of the model, and to fit it.
    """
    tensors, settings = _read(source)
    halves, unknown = _pairs(tensors)
    weights = {name.removesuffix(".weight"): name for name in entries if name.endswith(".weight")}
    flat = {module.replace(".", "_"): module for module in weights}
    changes: dict[str, Change] = {}
    strange: list[str] = list(unknown)
    for module, half in halves.items():
        found = _module_named(module, weights, flat)
        if found is None:
            strange.append(module)
            continue
        if half.a is None or half.b is None:
            raise ArtifactError(f"the adapter has only one half of the pair for {module}")
        name = weights[found]
        rank = half.a.shape[0]
        factor = settings.factor(found, rank, half.alpha)
        _check(name, entries[name], half.a, half.b)
        if any(entries[name].tensor == entries[other].tensor for other in changes):
            raise ArtifactError(f"the adapter changes {name} twice: it is tied to another weight")
        changes[name] = Change(half.a, half.b, factor)
    if strange:
        raise ArtifactError(f"the adapter names what this model has not: {listed(strange)}")
    if not changes:
        raise ArtifactError("the adapter is empty: it holds no pair of lora_A and lora_B")
    return changes


def merged(base: torch.Tensor, change: Change, scale: float) -> torch.Tensor:
    """A weight with an adapter's change, computed in float32 at least and rounded once."""
    exact = torch.promote_types(base.dtype, torch.float32)
    a, b = (t.to(device=base.device, dtype=exact) for t in (change.a, change.b))
    delta = (b.flatten(1) @ a.flatten(1)).view(base.shape)
    return delta.mul_(scale * change.factor).add_(base).to(base.dtype)


def _check(name: str, entry: WeightEntry, a: torch.Tensor, b: torch.Tensor) -> None:
    fits = (
        a.ndim == b.ndim == len(entry.shape)
        and a.shape[0] == b.shape[1] > 0
        and (b.shape[0], *a.shape[1:]) == entry.shape
        and all(n == 1 for n in b.shape[2:])
    )
    if not fits:
        raise ArtifactError(
            f"the adapter's pair for {name} is {list(a.shape)} and {list(b.shape)}, which does not "
            f"make up the weight's {list(entry.shape)}"
        )
    if entry.kind != "parameter" or not (a.is_floating_point() and b.is_floating_point()):
        raise ArtifactError(f"the adapter changes {name}, which is no floating-point parameter")


def _pairs(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, _Half], list[str]]:
    """The two halves and alpha by module, and names that are none of them."""
    halves: dict[str, _Half] = {}
    strange: list[str] = []
    for name, tensor in tensors.items():
        if match := _HALVES.fullmatch(name):
            half = halves.setdefault(match["module"], _Half())
            if match["a"]:
                half.a = tensor
            else:
                half.b = tensor
        elif (match := _ALPHA.fullmatch(name)) and tensor.numel() == 1:
            halves.setdefault(match["module"], _Half()).alpha = float(tensor)
        else:
            strange.append(name)
    return halves, strange


def _module_named(module: str, weights: Mapping[str, str], flat: Mapping[str, str]) -> str | None:
    """The model's module that an adapter means, whose name may have a prefix or be flattened."""
    for prefix in ("", *_PREFIXES):
        if module.startswith(prefix) and (rest := module.removeprefix(prefix)) in weights:
            return rest
    for prefix in ("", *_KOHYA):
        if module.startswith(prefix) and (rest := module.removeprefix(prefix)) in flat:
            return flat[rest]
    return None


def _read(source: LoraSource) -> tuple[Mapping[str, torch.Tensor], _Settings]:
    if isinstance(source, Mapping):
        return source, _Settings()
    path, settings = pathlib.Path(source), None
    if path.is_dir():
        settings = _peft_settings(path / "adapter_config.json")
        path = path / "adapter_model.safetensors"
    elif (beside := path.with_name("adapter_config.json")).is_file():
        settings = _peft_settings(beside)
    file = MappedFile.open(path)
    if settings is None and (text := file.header.metadata.get(_METADATA)):
        settings = _settings(text, str(path))
    tensors = {name: file.tensor(place) for name, place in file.header.tensors.items()}
    return tensors, settings or _Settings()


def _peft_settings(path: pathlib.Path) -> _Settings:
    try:
        return _settings(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def _settings(text: str, where: str) -> _Settings:
    """PEFT's configuration as JSON; diffusers puts it into a file's header, behind a prefix."""
    try:
        whole: Any = json.loads(text)
        prefix = next((p for p in ("", *_PREFIXES) if f"{p}lora_alpha" in whole), "")
        given = {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}
        if given.get("use_dora"):
            raise ArtifactError(f"{where}: the adapter is a DoRA, which rescales whole weights")
        special = (given.get("alpha_pattern") or {}).items()
        alphas = tuple((re.compile(rf"(?:.*\.)?(?:{k})"), float(v)) for k, v in special)
        alpha = given.get("lora_alpha")
        stabilized = bool(given.get("use_rslora"))
        return _Settings(None if alpha is None else float(alpha), alphas, stabilized)
    except (ValueError, AttributeError, TypeError, re.error) as error:
        raise ArtifactError(f"{where}: PEFT's configuration cannot be read: {error}") from error
