"""Safetensors data as tensors: mapped into memory, copied to a device, checked against digests."""

import hashlib
import mmap
import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from effcomp.errors import ArtifactError
from effcomp.plan.storage import Region
from effcomp.plan.tensors import Header, TensorPlace, header_bytes, parse_header
from effcomp.runtime.dtypes import dtype_named
from effcomp.runtime.memory import extent

__all__ = ["MappedFile", "laid_out", "verify_chunks"]


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A safetensors file, or the part of a file that is one, mapped into memory.

    Pages are private: what is written to a tensor of it never reaches the file.
    """

    path: pathlib.Path
    header: Header
    memory: mmap.mmap
    start: int  # of the data, in the mapping
    size: int

    @classmethod
    def open(cls, path: pathlib.Path, region: Region | None = None) -> "MappedFile":
        """Map a file. Raises ArtifactError where it is no safetensors file."""
        try:
            with open(path, "rb") as file:
                region = region or Region(0, os.fstat(file.fileno()).st_size)
                file.seek(region.offset)
                first = file.read(8)
                length = header_bytes(first, region.size, str(path))
                text = file.read(length)
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError, OverflowError) as error:
            raise ArtifactError(f"the weights in {path} cannot be read: {error}") from error
        header = parse_header(text, region.size - 8 - length, str(path))
        if len(memory) < region.offset + region.size:
            raise ArtifactError(f"{path} is cut off: the weights reach beyond its end")
        return cls(path, header, memory, region.offset + header.start, region.size)

    def tensor(self, place: TensorPlace) -> torch.Tensor:
        """A tensor over the mapped pages."""
        dtype = dtype_named(place.dtype)
        count = place.size // dtype.itemsize
        if count == 0:
            return torch.empty(place.shape, dtype=dtype)
        offset = self.start + place.offset
        if offset % dtype.itemsize:  # files of others need not be aligned
            raw = torch.frombuffer(self.memory, dtype=torch.uint8, count=place.size, offset=offset)
            return raw.clone().view(dtype).view(place.shape)
        flat = torch.frombuffer(self.memory, dtype=dtype, count=count, offset=offset)
        return flat.view(place.shape)


def laid_out(tensor: torch.Tensor, strides: Sequence[int], device: torch.device) -> torch.Tensor:
    """The tensor on `device` under these strides; itself where that is what it is.

    Strides of 0 (an expanded buffer) stand for one element each.
    """
    shape, wanted = tuple(tensor.shape), tuple(strides)
    if tensor.device == device and (tensor.stride() == wanted or tensor.numel() == 0):
        return tensor
    repeated = [i for i, stride in enumerate(wanted) if stride == 0 and shape[i] > 1]
    for i in repeated:
        tensor = tensor.narrow(i, 0, 1)
    memory = torch.empty(extent(tensor.shape, wanted), dtype=tensor.dtype, device=device)
    memory.as_strided(tensor.shape, wanted).copy_(tensor)
    return memory.as_strided(shape, wanted)


def verify_chunks(
    file: MappedFile, chunks: Sequence[str], chunk_bytes: int, pool: ThreadPoolExecutor
) -> "list[Future[None]]":
    """Start comparing the data with their digests; the futures raise ArtifactError."""
    view = memoryview(file.memory)[file.start :]
    size = max((p.offset + p.size for p in file.header.tensors.values()), default=0)
    if len(chunks) != -(-size // chunk_bytes):
        raise ArtifactError(f"{file.path}: {len(chunks)} digests for {size} bytes of weights")

    def check(number: int) -> None:
        part = view[number * chunk_bytes : min((number + 1) * chunk_bytes, size)]
        if hashlib.sha256(part).hexdigest() != chunks[number]:
            names = _names_in(file.header.tensors, number * chunk_bytes, chunk_bytes)
            raise ArtifactError(f"{file.path}: the weights are damaged near {names}")

    return [pool.submit(check, number) for number in range(len(chunks))]


def _names_in(tensors: Mapping[str, TensorPlace], start: int, size: int) -> str:
    inside = (
        n for n, p in tensors.items() if p.offset < start + size and p.offset + p.size > start
    )
    return next(inside, "their end")
