"""What an artifact stores of a model's weights: embedded, in files that lie elsewhere, or not."""

import os
import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from effcomp.dtypes import DTYPE_NAMES
from effcomp.errors import ArtifactError
from effcomp.plan.manifest import SourceFile, Weights
from effcomp.plan.tensors import TYPES, TensorData
from effcomp.runtime.mapping import MappedFile
from effcomp.runtime.weights import WeightStore, listed, mapped_files

__all__ = ["chosen_weights"]


def chosen_weights(
    path: pathlib.Path,
    weights: Weights,
    store: WeightStore,
    mode: Literal["embed", "reference", "omit"],
    files: Sequence[str | pathlib.Path],
) -> tuple[Weights, dict[str, TensorData]]:
    """What an artifact at `path` says of the weights, and the tensors that it embeds.

    Raises ArtifactError.
    """
    named = {entry.tensor for entry in weights.entries.values() if entry.kind != "constant"}
    table = replace(weights, files=(), places={}, chunks=())
    if mode == "embed":
        left: set[str] = set()
    elif mode == "omit":
        left = named
    elif mode == "reference":
        mapped = mapped_files(files) or list(store.files)
        if not mapped:
            raise ArtifactError(
                "weights='reference' has to know which safetensors files hold the weights: pass "
                "them as files=[...]"
            )
        places = _places(weights, store, mapped, named)
        sources = tuple(_source(file, path) for file in mapped)
        table, left = replace(table, files=sources, places=places), set(places)
    else:
        raise ArtifactError(f"weights={mode!r} is not one of 'embed', 'reference', 'omit'")
    return table, {k: _stored(k, t) for k, t in store.tensors.items() if k not in left}


def _places(
    weights: Weights, store: WeightStore, files: Sequence[MappedFile], named: set[str]
) -> dict[str, tuple[int, str]]:
    """Where each tensor lies in the files, which have to hold what the model runs with."""
    places: dict[str, tuple[int, str]] = {}
    for name, entry in weights.entries.items():
        if entry.tensor in places or entry.tensor not in named:
            continue
        for number, file in enumerate(files):
            place = file.header.tensors.get(name)
            if place is None or (place.dtype, place.shape) != (entry.dtype, entry.shape):
                continue
            if torch.equal(file.tensor(place), store.tensors[entry.tensor].cpu()):
                places[entry.tensor] = number, name
    absent = sorted(
        name
        for name, entry in weights.entries.items()
        if entry.kind == "parameter" and entry.tensor not in places
    )
    if absent:
        raise ArtifactError(
            f"the files do not hold, as the model has them: {listed(absent)}; save with "
            "weights='embed'"
        )
    return places


def _source(file: MappedFile, artifact: pathlib.Path) -> SourceFile:
    """A file by its path: relative where it lies with the artifact, so that both can move."""
    where = os.path.relpath(file.path.resolve(), artifact.resolve().parent)
    outside = where.startswith(os.pardir)
    text = str(file.path.resolve()) if outside else pathlib.PurePath(where).as_posix()
    return SourceFile(text, file.size, file.header.digest)


def _stored(name: str, tensor: torch.Tensor) -> TensorData:
    """A tensor to write, copied to the CPU only when its turn comes."""
    dtype = DTYPE_NAMES.get(tensor.dtype, "")
    if dtype not in TYPES:
        raise ArtifactError(f"{name} is of {tensor.dtype}, which safetensors cannot hold")

    if tensor.device.type == "meta":
        raise ArtifactError(
            f"{name} has no data to save: the model was compiled on the meta device; save with "
            "weights='omit'"
        )

    def read() -> memoryview:
        flat = tensor.detach().cpu().contiguous().view(-1)
        return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")

    return TensorData(dtype, tuple(tensor.shape), read)
