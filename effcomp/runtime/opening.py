"""`effcomp.load`: an artifact becomes a model that can be called."""

import math
import os
import pathlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from effcomp.errors import ArtifactError, DeviceError
from effcomp.plan.container import Artifact, read_artifact
from effcomp.plan.manifest import SourceFile, WeightEntry
from effcomp.runtime.mapping import MappedFile, laid_out, verify_chunks
from effcomp.runtime.memory import extent
from effcomp.runtime.model import CompiledModel, check_entries, require_target, target_for
from effcomp.runtime.weights import (
    Offer,
    WeightSource,
    WeightStore,
    file_offers,
    listed,
    matched,
    offers_of,
    telling_memory,
)

__all__ = ["load", "open_weights"]

_MOST_THREADS = 16
_MOST_SPREAD = 4096  # elements of memory for one element of a weight


def load(
    path: str | pathlib.Path,
    device: torch.device | str | None = None,
    *,
    weights: WeightSource | None = None,
    progress: bool | None = None,
) -> CompiledModel:
    """Load an artifact on a device: by default a GPU if it was compiled for one that is here.

    Digests, versions, target and device are checked before anything runs. Nothing is compiled for
    a GPU where the artifact has kernels that fit it. `weights`, a state dict or safetensors files,
    take the place of those in the artifact. Raises ArtifactError for an artifact that is damaged or
    of another version, DeviceError for a device that it was not compiled for.
    """
    artifact = read_artifact(path)
    check_entries(artifact)
    chosen = _device(artifact, device)
    require_target(artifact, chosen)
    store = open_weights(artifact, chosen, weights)
    return CompiledModel(artifact, store, progress=progress, remarks=_versions_apart(artifact))


def _versions_apart(artifact: Artifact) -> list[str]:
    """What to know where another torch runs a plan than the one that it was made with.

    The plan's own format is checked by its version. Operators keep their names and meaning from
    release to release; one that is gone is an error, which names it.
    """
    built = artifact.manifest.versions
    here, there = (
        ".".join(v.split("+")[0].split(".")[:2]) for v in (torch.__version__, built.torch)
    )
    if here == there:
        return []
    return [f"compiled with torch {built.torch}, running with {torch.__version__}"]


def _device(artifact: Artifact, device: torch.device | str | None) -> torch.device:
    if device is not None:
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise DeviceError(f"there is no device {device!r}: {error}") from None
    elif torch.cuda.is_available() and target_for(artifact.plans, torch.device("cuda")):
        chosen = torch.device("cuda")
    else:
        chosen = torch.device("cpu")
    if chosen.type != "cuda" or not torch.cuda.is_available():
        return chosen
    if chosen.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if chosen.index >= (count := torch.cuda.device_count()):
        raise DeviceError(
            f"there is no {chosen}: this machine has {count} CUDA device(s). A target such as "
            "cuda:90 is no device; leave it out, or say 'cuda'"
        )
    return chosen


def open_weights(
    artifact: Artifact, device: torch.device, given: WeightSource | None = None
) -> WeightStore:
    """The weights on the device, compared with their digests meanwhile."""
    table = artifact.manifest.weights
    entries = {entry.tensor: entry for entry in table.entries.values()}
    offers: dict[str, Offer] = {}
    files: tuple[MappedFile, ...] = ()
    embedded = None
    if artifact.weights is not None and artifact.path is not None:
        embedded = MappedFile.open(artifact.path, artifact.weights)
        offers.update(file_offers(embedded))
    if given is not None:
        offers.update(matched(table.entries, offers_of(given)))
    elif table.files:
        files = tuple(_referenced(artifact, source) for source in table.files)
        offers.update(_placed(artifact, files))
    _check_offers(artifact, entries, offers)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        checks: list[Future[None]] = []
        if embedded is not None:
            checks = verify_chunks(embedded, table.chunks, table.chunk_bytes, pool)
        with telling_memory(device, table.entries):
            tensors = {
                key: laid_out(offers[key].get(), entry.strides, device)
                for key, entry in entries.items()
            }
        for check in checks:
            check.result()
    shared = () if given is None else tuple(entries)
    store = WeightStore(table.entries, tensors, device, shared)
    store.files = files
    return store


def _referenced(artifact: Artifact, source: SourceFile) -> MappedFile:
    """A file with weights, if it is the one that the artifact was made for."""
    assert artifact.path is not None, "the artifact was read from a file"
    path = artifact.path.parent / source.path
    if not path.is_file():
        raise ArtifactError(
            f"{artifact.path} expects its weights in {path}, which is not there: put it there, or "
            "pass the weights to load"
        )
    file = MappedFile.open(path)
    if (file.size, file.header.digest) != (source.size, source.header):
        raise ArtifactError(
            f"{path} is not the file that {artifact.path} was made for: its size or header differs"
        )
    return file


def _placed(artifact: Artifact, files: tuple[MappedFile, ...]) -> dict[str, Offer]:
    offered = [file_offers(file) for file in files]
    found: dict[str, Offer] = {}
    for key, (number, name) in artifact.manifest.weights.places.items():
        if not 0 <= number < len(files) or name not in offered[number]:
            raise ArtifactError(f"{artifact.path}: the weight {key} is not where it should be")
        found[key] = offered[number][name]
    return found


def _check_offers(
    artifact: Artifact, entries: Mapping[str, WeightEntry], offers: Mapping[str, Offer]
) -> None:
    if absent := [key for key in entries if key not in offers]:
        raise ArtifactError(
            f"{artifact.path} was saved without its weights: pass them to load ({listed(absent)})"
        )
    for key, entry in entries.items():
        offer = offers[key]
        if (offer.dtype, offer.shape) != (entry.dtype, entry.shape):
            raise ArtifactError(
                f"{artifact.path}: {key} is {offer.dtype}{list(offer.shape)} instead of "
                f"{entry.dtype}{list(entry.shape)}"
            )
        if not _plausible(entry):
            raise ArtifactError(f"{artifact.path}: {key} has the strides {list(entry.strides)}")


def _plausible(entry: WeightEntry) -> bool:
    """Whether strides are some that a model's tensor may have: at most a slice of a wider one."""
    if len(entry.strides) != len(entry.shape) or min(entry.strides, default=0) < 0:
        return False
    return extent(entry.shape, entry.strides) <= _MOST_SPREAD * math.prod(entry.shape) + 1
