"""What a cubin states of itself is read; other bytes state nothing, and break nothing."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from effcomp.plan.resources import Resources, resources_of


def _elf(info: bytes) -> bytes:
    """An ELF file with one section: .nv.info."""
    names = b"\0.nv.info\0.shstrtab\0"
    body = info + names
    start = 64
    headers = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 0, 0, start, len(info), 0, 0, 0, 0),
        (10, 3, 0, 0, start + len(info), len(names), 0, 0, 0, 0),
    ]
    table = b"".join(struct.pack("<IIQQQQIIQQ", *header) for header in headers)
    head = bytearray(64)
    struct.pack_into("<Q", head, 0x28, start + len(body))
    struct.pack_into("<HHH", head, 0x3A, 64, len(headers), 2)
    return bytes(head) + body + table


def _attribute(kind: int, value: int) -> bytes:
    return struct.pack("<BBHII", 4, kind, 8, 1, value)


def test_registers_and_stack_are_read() -> None:
    info = struct.pack("<BBH", 1, 0x42, 7) + _attribute(0x2F, 118) + _attribute(0x11, 16)
    assert resources_of(_elf(info)) == Resources(118, 16)
    assert resources_of(_elf(_attribute(0x11, 16))) is None


@given(st.binary(max_size=200))
def test_other_bytes_state_nothing(code: bytes) -> None:
    assert resources_of(code) is None


@given(st.data())
def test_broken_files_break_nothing(data: st.DataObject) -> None:
    code = bytearray(_elf(_attribute(0x2F, 118)))
    for _ in range(3):
        code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    resources_of(bytes(code[: data.draw(st.integers(0, len(code)))]))
