"""`effcomp.load`: an artifact becomes a model that can be called."""

import os
import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from effcomp.errors import ArtifactError
from effcomp.plan.container import Artifact, read_artifact
from effcomp.plan.manifest import WeightEntry
from effcomp.runtime.mapping import MappedFile, laid_out, verify_chunks
from effcomp.runtime.model import CompiledModel, check_entries, require_target, target_for

__all__ = ["load"]

_MOST_THREADS = 8


def load(
    path: str | pathlib.Path,
    device: torch.device | str | None = None,
    *,
    progress: bool | None = None,
) -> CompiledModel:
    """Load an artifact on a device: by default a GPU if it was compiled for one that is here.

    Digests, versions, target and device are checked before anything runs. Nothing is compiled
    where compiled kernels for the device are in the artifact. Raises ArtifactError for an artifact
    that is damaged or of another version, DeviceError for a device that it was not compiled for.
    """
    artifact = read_artifact(path)
    check_entries(artifact)
    chosen = _device(artifact, device)
    require_target(artifact, chosen)
    tensors = _load_weights(artifact, chosen)
    return CompiledModel(artifact, tensors, chosen, progress=progress)


def _device(artifact: Artifact, device: torch.device | str | None) -> torch.device:
    if device is not None:
        chosen = torch.device(device)
    elif torch.cuda.is_available() and target_for(artifact.plans, torch.device("cuda")):
        chosen = torch.device("cuda")
    else:
        chosen = torch.device("cpu")
    if chosen.type == "cuda" and chosen.index is None and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def _load_weights(artifact: Artifact, device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors that the weights name, on the device."""
    weights = artifact.manifest.weights
    entries = {entry.tensor: entry for entry in weights.entries.values()}
    if not entries:
        return {}
    if artifact.weights is None or artifact.path is None:
        raise ArtifactError(f"{artifact.path} holds no weights, and does not say where they are")
    file = MappedFile.open(artifact.path, artifact.weights)
    _check_header(file, entries)
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        checks = verify_chunks(file, weights.chunks, weights.chunk_bytes, pool)
        tensors = {
            name: laid_out(file.tensor(file.header.tensors[name]), entry.strides, device)
            for name, entry in entries.items()
        }
        for check in checks:
            check.result()
    return tensors


def _check_header(file: MappedFile, entries: Mapping[str, WeightEntry]) -> None:
    for name, entry in entries.items():
        place = file.header.tensors.get(name)
        if place is None or (place.dtype, place.shape) != (entry.dtype, entry.shape):
            raise ArtifactError(
                f"{file.path}: the weights lack {name} of {entry.dtype}{list(entry.shape)}"
            )
