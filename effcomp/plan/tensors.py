"""The safetensors format: written in a stream, read as places in a file.

A file is 8 bytes of length, a JSON header of that length, then the data without gaps. Here the
header is padded so that data start at a multiple of 64; large elements come first, so that every
tensor starts at a multiple of its element's size.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from effcomp.errors import ArtifactError
from effcomp.plan.storage import ALIGNMENT, aligned_entry

__all__ = [
    "SIZES",
    "TYPES",
    "Header",
    "TensorData",
    "TensorPlace",
    "header_bytes",
    "parse_header",
    "write_tensors",
]

TYPES = {
    "f64": "F64", "f32": "F32", "bf16": "BF16", "f16": "F16",
    "f8e4m3": "F8_E4M3", "f8e5m2": "F8_E5M2",
    "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8",
    "u64": "U64", "u8": "U8", "bool": "BOOL", "c64": "C64",
}  # fmt: skip
"""Element types that the format knows, by their names in a plan."""

SIZES = {
    "f64": 8, "f32": 4, "bf16": 2, "f16": 2, "f8e4m3": 1, "f8e5m2": 1,
    "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u64": 8, "u8": 1, "bool": 1, "c64": 8,
}  # fmt: skip

_NAMES = {theirs: ours for ours, theirs in TYPES.items()}
_MOST_HEADER = 100_000_000  # what the safetensors library accepts
_WRITE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class TensorData:
    """A tensor to write: `read` gives its row-major bytes when their turn comes."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], memoryview]

    @property
    def nbytes(self) -> int:
        return _nbytes(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """A tensor in a file: `offset` counts from the start of the safetensors data."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """Where the tensors of a safetensors file lie. `start`: bytes before the data."""

    tensors: Mapping[str, TensorPlace]
    start: int
    digest: str
    metadata: Mapping[str, str]


def write_tensors(
    archive: zipfile.ZipFile, name: str, tensors: Mapping[str, TensorData], chunk_bytes: int
) -> tuple[str, ...]:
    """Add a stored entry of tensors; returns the digests of the data's chunks."""
    ordered = sorted(tensors.items(), key=lambda item: -SIZES[item[1].dtype])
    header = _header(ordered)
    chunks = _Chunks(chunk_bytes)
    with archive.open(aligned_entry(archive, name), "w", force_zip64=True) as entry:
        entry.write(header)
        for key, tensor in ordered:
            body = tensor.read()
            assert body.nbytes == tensor.nbytes, f"{key} has {body.nbytes} bytes"
            for part in _pieces(body):
                entry.write(part)
                chunks.add(part)
    return chunks.digests()


def _header(tensors: Sequence[tuple[str, TensorData]]) -> bytes:
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors:
        fields[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _pieces(body: memoryview) -> Iterator[memoryview]:
    for start in range(0, body.nbytes, _WRITE_BYTES):
        yield body[start : start + _WRITE_BYTES]


class _Chunks:
    """Digests of a stream, one for every so many bytes."""

    def __init__(self, chunk_bytes: int) -> None:
        self._most, self._left = chunk_bytes, chunk_bytes
        self._digest = hashlib.sha256()
        self._done: list[str] = []

    def add(self, part: memoryview) -> None:
        while part.nbytes:
            taken = part[: self._left]
            self._digest.update(taken)
            self._left -= taken.nbytes
            part = part[taken.nbytes :]
            if self._left == 0:
                self._close()

    def _close(self) -> None:
        self._done.append(self._digest.hexdigest())
        self._digest, self._left = hashlib.sha256(), self._most

    def digests(self) -> tuple[str, ...]:
        if self._left < self._most:
            self._close()
        return tuple(self._done)


# Reading.


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Place:
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_FIELDS: TypeAdapter[dict[str, _Place]] = TypeAdapter(dict[str, _Place])
_RAW: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])
_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])


def header_bytes(first: bytes, available: int, where: str) -> int:
    """The length of the header behind its first 8 bytes. Raises ArtifactError."""
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > _MOST_HEADER or 8 + length > available:
        raise ArtifactError(f"{where} is not a safetensors file: its header is cut off")
    return length


def parse_header(text: bytes, data_bytes: int, where: str) -> Header:
    """The tensors of a file with this header and so many bytes behind it. Raises ArtifactError.

    Every tensor has to lie inside the data, hold as many bytes as its shape says, and share none.
    """
    try:
        raw = _RAW.validate_json(text)
        metadata = _METADATA.validate_python(raw.pop("__metadata__", None) or {})
        fields = _FIELDS.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the text"
        raise ArtifactError(f"{where}: the header: {place}: {first['msg']}") from None
    tensors: dict[str, TensorPlace] = {}
    end = 0
    for name, field in sorted(fields.items(), key=lambda item: item[1].data_offsets):
        start, stop = field.data_offsets
        if start < end or stop < start or stop > data_bytes:
            raise ArtifactError(
                f"{where}: {name} lies from byte {start} to {stop}, outside the {data_bytes} bytes "
                "of data or over another tensor"
            )
        end = stop
        dtype = _NAMES.get(field.dtype, "")
        if not dtype:
            continue  # a type that no plan knows is nobody's weight
        if min(field.shape, default=0) < 0 or stop - start != _nbytes(dtype, field.shape):
            raise ArtifactError(
                f"{where}: {name} has {stop - start} bytes, not those of {field.dtype} "
                f"{list(field.shape)}"
            )
        tensors[name] = TensorPlace(dtype, field.shape, start, stop - start)
    return Header(tensors, 8 + len(text), hashlib.sha256(text).hexdigest(), metadata)


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    count = SIZES[dtype]
    for dim in shape:
        count *= dim
    return count
