"""What a kernel takes of a processor, read from its cubin: an ELF file with notes by NVIDIA."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Resources", "resources_of"]

# Attributes of the section .nv.info, each of two words: a symbol and its value.
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F
_SIZED = 0x04  # the form of an attribute with a value of stated size


@dataclass(frozen=True, slots=True)
class Resources:
    """Registers a thread, and bytes of its stack: what did not fit into registers."""

    registers: int
    stack_bytes: int


def resources_of(code: bytes) -> Resources | None:
    """The resources of the kernel in a cubin; None where it does not state them."""
    try:
        found = dict(_attributes(_section(code, b".nv.info")))
    except (struct.error, ValueError):
        return None
    registers = found.get(_REGISTERS)
    return None if registers is None else Resources(registers, found.get(_FRAME_SIZE, 0))


def _section(code: bytes, name: bytes) -> bytes:
    """The contents of a section of a 64-bit ELF file; nothing where there is none of this name."""
    (table,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", code, table + i * size) for i in range(count)]
    if names >= count:
        return b""
    text = headers[names][4]
    for header in headers:
        start = text + header[0]
        if code[start : code.index(b"\0", start)] == name:
            return code[header[4] : header[4] + header[5]]
    return b""


def _attributes(info: bytes) -> Iterator[tuple[int, int]]:
    """Attributes that hold a symbol and a value; where several kernels state one, the largest."""
    at, most = 0, dict[int, int]()
    while at + 4 <= len(info):
        form, kind, size = struct.unpack_from("<BBH", info, at)
        if form == _SIZED and size == 8:
            (value,) = struct.unpack_from("<I", info, at + 8)
            most[kind] = max(most.get(kind, 0), value)
        at += 4 + (size if form == _SIZED else 0)
    yield from most.items()
