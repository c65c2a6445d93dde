"""The weights of a compiled model: where they come from, and giving it others.

Everything is checked before anything is overwritten, and new values go into the old memory, so that
CUDA graphs stay valid; what was computed of the weights follows by itself (see prologue).
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from effcomp.dtypes import DTYPE_NAMES
from effcomp.errors import ArtifactError, DeviceError
from effcomp.plan.manifest import WeightEntry
from effcomp.plan.tensors import SIZES
from effcomp.runtime.mapping import MappedFile, laid_out

__all__ = [
    "Offer",
    "WeightSource",
    "WeightStore",
    "listed",
    "mapped_files",
    "matched",
    "offers_of",
    "telling_memory",
]

WeightSource = Mapping[str, torch.Tensor] | str | pathlib.Path | Sequence[str | pathlib.Path]
"""Weights by name: a state dict, safetensors files, or folders of them."""

_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Offer:
    """A tensor that can be had."""

    dtype: str
    shape: tuple[int, ...]
    get: Callable[[], torch.Tensor]


def offers_of(source: WeightSource) -> dict[str, Offer]:
    """What a source holds, without reading its data. Raises ArtifactError."""
    if isinstance(source, Mapping):
        return {name: _offer(name, tensor) for name, tensor in source.items()}
    paths = [source] if isinstance(source, (str, pathlib.Path)) else source
    found: dict[str, Offer] = {}
    for file in mapped_files(paths):
        for name, offer in file_offers(file).items():
            if name in found:
                raise ArtifactError(f"{file.path}: {name} is in another of the files as well")
            found[name] = offer
    return found


def mapped_files(paths: Iterable[str | pathlib.Path]) -> list[MappedFile]:
    """The safetensors files at these paths, and in these folders. Raises ArtifactError."""
    found: list[MappedFile] = []
    for path in map(pathlib.Path, paths):
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not inside:
            raise ArtifactError(f"there is no safetensors file in {path}")
        found += map(MappedFile.open, inside)
    return found


def file_offers(file: MappedFile) -> dict[str, Offer]:
    """The tensors of a mapped file."""

    def offer(name: str) -> Offer:
        place = file.header.tensors[name]
        return Offer(place.dtype, place.shape, lambda: file.tensor(place))

    return {name: offer(name) for name in file.header.tensors}


def _offer(name: str, tensor: object) -> Offer:
    if not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta":
        raise ArtifactError(f"the weight {name} is {type(tensor).__name__} without data")
    found = tensor.detach()
    return Offer(DTYPE_NAMES.get(found.dtype, str(found.dtype)), tuple(found.shape), lambda: found)


def matched(entries: Mapping[str, WeightEntry], offers: Mapping[str, Offer]) -> dict[str, Offer]:
    """For every stored tensor what is offered under one of its names.

    Constants, which no state dict holds, may be absent. Raises ArtifactError that lists all names
    which are missing, unknown, or of another type.
    """
    found: dict[str, Offer] = {}
    wrong: list[str] = []
    for name, offer in offers.items():
        entry = entries.get(name)
        if entry is None:
            continue
        if (offer.dtype, offer.shape) != (entry.dtype, entry.shape):
            wrong.append(
                f"{name} ({offer.dtype}{list(offer.shape)} instead of "
                f"{entry.dtype}{list(entry.shape)})"
            )
            continue
        first = found.setdefault(entry.tensor, offer)
        if first is not offer and not torch.equal(first.get(), offer.get().to(first.get().device)):
            wrong.append(f"{name} (not equal to {entry.tensor}, to which it is tied)")
    unknown = [name for name in offers if name not in entries]
    missing = [
        name
        for name, entry in entries.items()
        if entry.kind != "constant" and entry.tensor not in found and name not in offers
    ]
    problems = [
        f"{what}: {listed(names)}"
        for what, names in (("missing", missing), ("unexpected", unknown), ("wrong", wrong))
        if names
    ]
    if problems:
        raise ArtifactError(f"these are not the model's weights; {'; '.join(problems)}")
    return found


def listed(names: Sequence[str]) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


@contextlib.contextmanager
def telling_memory(device: torch.device, entries: Mapping[str, WeightEntry]) -> Generator[None]:
    """Turn running out of memory into a DeviceError that says what the weights take."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        sizes = {e.tensor: math.prod(e.shape) * SIZES.get(e.dtype, 1) for e in entries.values()}
        raise DeviceError(
            f"{device} is out of memory: the model's weights take "
            f"{sum(sizes.values()) / 2**30:.2f} GiB, and what changes them as much again; free "
            "other tensors, or use another device"
        ) from error


class WeightStore:
    """The tensors of a compiled model. `shared` are those that a module of the caller's holds."""

    def __init__(
        self,
        entries: Mapping[str, WeightEntry],
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
        shared: Iterable[str] = (),
    ) -> None:
        self.entries, self.device = entries, device
        self.tensors = dict(tensors)
        self.files: tuple[MappedFile, ...] = ()
        self._shared = set(shared)

    def named(self, name: str) -> torch.Tensor:
        """The weight of this name."""
        return self.tensors[self.entries[name].tensor]

    def replace(self, source: WeightSource) -> None:
        """Take other weights. Raises ArtifactError before any is overwritten."""
        offers = matched(self.entries, offers_of(source))
        with telling_memory(self.device, self.entries):
            for key, offer in offers.items():
                self.write(key, offer.get())

    def write(self, key: str, value: torch.Tensor) -> None:
        """Give a tensor another value, in place unless a module of the caller's holds it too."""
        old = self.tensors[key]
        with torch.inference_mode(False), torch.no_grad():
            if key in self._shared:
                self._shared.discard(key)
                new = laid_out(value, old.stride(), old.device)
                self.tensors[key] = new.clone() if new is value else new
            else:
                _writable(old).copy_(value)


def _writable(tensor: torch.Tensor) -> torch.Tensor:
    """The elements of a tensor, each once where it is expanded."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
