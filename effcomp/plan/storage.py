"""Zip files as artifacts use them: written aside and renamed, read with every claim checked."""

import contextlib
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import BinaryIO

from effcomp.errors import ArtifactError

__all__ = [
    "ALIGNMENT",
    "Files",
    "Region",
    "aligned_entry",
    "read_entries",
    "write_aside",
    "write_entry",
]

ALIGNMENT = 64
"""Bytes: where the data of a stored entry may start, so that it can be mapped into memory."""

_MOST_ENTRY = 1 << 29
_MOST_TOTAL = 1 << 31
_MOST_FILES = 1 << 16
_LOCAL = struct.Struct("<4s5H3L2H")  # a local file header
_ZIP64_EXTRA = 20  # what zipfile adds to it where it is told to expect a large entry
_DATE = (1980, 1, 1, 0, 0, 0)
# What zipfile raises for files that are no good, and reading for disks that are not.
_UNREADABLE = (
    OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, KeyError, IndexError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of a file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Files:
    """The entries of an artifact, and where the one lies that is mapped rather than read."""

    path: pathlib.Path
    bodies: dict[str, bytes]
    mapped: Region | None

    def take(self, name: str) -> bytes:
        """The body of an entry, which is then no longer among them. Raises ArtifactError."""
        if name not in self.bodies:
            raise ArtifactError(f"{self.path} is not an effcomp artifact: it holds no {name}")
        return self.bodies.pop(name)


@contextlib.contextmanager
def write_aside(path: pathlib.Path) -> Generator[zipfile.ZipFile]:
    """A zip that takes the place of `path` once it is complete and on disk.

    Whatever goes wrong before leaves `path` as it was. Raises ArtifactError for a full disk or a
    folder that cannot be written.
    """
    aside: str | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            aside = file.name
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
        aside = None
        _sync_folder(path.parent)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}; nothing was changed") from error
    finally:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)


def write_entry(archive: zipfile.ZipFile, name: str, body: bytes) -> None:
    """Add a compressed entry; equal contents give equal bytes."""
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, body)


def aligned_entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An entry to be opened for writing next, stored, whose data will start at a multiple of 64."""
    assert archive.fp is not None, "the archive is open"
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o644 << 16
    info.compress_type = zipfile.ZIP_STORED
    start = archive.start_dir + _LOCAL.size + len(name.encode()) + _ZIP64_EXTRA  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    # An extra field of unknown kind is skipped by every reader; it takes 4 bytes for its head.
    padding = -(start + 4) % ALIGNMENT
    info.extra = struct.pack("<HH", 0xD935, padding) + bytes(padding)
    return info


def read_entries(path: pathlib.Path, mapped: str) -> Files:
    """Read every entry but `mapped`, which must be stored. Raises ArtifactError."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            infos = _checked(path, archive)
            bodies = {n: _read(archive, info) for n, info in infos.items() if n != mapped}
            region = _region(file, infos[mapped]) if mapped in infos else None
            if region is not None and region.offset + region.size > os.fstat(file.fileno()).st_size:
                raise ArtifactError(f"{path}: {mapped} reaches beyond the end of the file")
            return Files(path, bodies, region)
    except FileNotFoundError:
        raise ArtifactError(f"there is no artifact {path}") from None
    except _UNREADABLE as error:
        raise ArtifactError(f"{path} cannot be read as an artifact: {error}") from error


def _checked(path: pathlib.Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, if their names and sizes are ones that an artifact may have."""
    infos = archive.infolist()
    if len(infos) > _MOST_FILES:
        raise ArtifactError(f"{path} holds {len(infos)} files, more than any artifact")
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name = info.filename
        if name in found:
            raise ArtifactError(f"{path} holds {name} twice")
        parts = name.split("/")
        if not all(parts) or {".", ".."} & set(parts) or set(name) & set("\\:\0"):
            raise ArtifactError(f"{path} holds a file called {name!r}, which no artifact does")
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise ArtifactError(f"{path}: {name} is encrypted, or packed in an unusual way")
        if not name.endswith(".safetensors"):
            total += info.file_size
            if info.file_size > _MOST_ENTRY or total > _MOST_TOTAL:
                raise ArtifactError(
                    f"{path}: {name} would unpack to {info.file_size} bytes, more than an "
                    "artifact's plans and kernels take"
                )
        found[name] = info
    return found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as entry:
        return entry.read(info.file_size + 1)


def _region(file: BinaryIO, info: zipfile.ZipInfo) -> Region:
    """Where a stored entry's data lie: behind its local header, which has extras of its own."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ArtifactError(f"{info.filename} is compressed: it cannot be mapped into memory")
    file.seek(info.header_offset)
    head = _LOCAL.unpack(file.read(_LOCAL.size))
    if head[0] != b"PK\x03\x04":
        raise ArtifactError(f"{info.filename} is not where the archive says")
    return Region(info.header_offset + _LOCAL.size + head[-2] + head[-1], info.file_size)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: pathlib.Path) -> None:
    """Make the rename itself last; systems that cannot open folders do not need it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
