"""Types as text, both ways."""

import re

from effcomp.errors import ParseError
from effcomp.ir.dims import parse_dim
from effcomp.ir.types import ITEMSIZE, SizeType, TensorType, Type

_TYPE = re.compile(r"(\w+)\[(.*)\]", re.S)


def parse_type(text: str) -> Type:
    """Read `f32[2, s0]` or `size[s0]`. Raises ParseError."""
    found = _TYPE.fullmatch(text.strip())
    if found is None:
        raise ParseError(f"not a type: {text!r}")
    name, inner = found[1], found[2].strip()
    if name == "size":
        return SizeType(parse_dim(inner))
    if name not in ITEMSIZE:
        raise ParseError(f"unknown dtype {name!r} in {text!r}")
    return TensorType(name, tuple(parse_dim(p) for p in split_top(inner)))


def split_top(text: str) -> list[str]:
    """Split at commas that stand outside brackets."""
    parts: list[str] = []
    depth, start = 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if text[start:].strip():
        parts.append(text[start:])
    return parts
