"""Tensors as what an artifact stores."""

from collections.abc import Mapping

import torch

from effcomp.dtypes import DTYPE_NAMES
from effcomp.errors import ArtifactError
from effcomp.plan.tensors import TYPES, TensorData

__all__ = ["stored_tensors"]


def stored_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, TensorData]:
    """The tensors to write, each copied to the CPU only when its turn comes."""
    return {name: _stored(name, tensor) for name, tensor in tensors.items()}


def _stored(name: str, tensor: torch.Tensor) -> TensorData:
    dtype = DTYPE_NAMES.get(tensor.dtype, "")
    if dtype not in TYPES:
        raise ArtifactError(f"{name} is of {tensor.dtype}, which safetensors cannot hold")

    def read() -> memoryview:
        flat = tensor.detach().cpu().contiguous().view(-1)
        return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")

    return TensorData(dtype, tuple(tensor.shape), read)
