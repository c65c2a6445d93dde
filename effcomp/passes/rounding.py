"""What dtypes can hold: exact conversions, and rounding a number to a dtype without torch."""

import math
import struct
from collections.abc import Mapping

from effcomp.ir.types import FLOATS, INTEGERS

Number = bool | int | float

# Bits of a float's significand, and the exponents of its smallest and largest normal numbers.
_SIGNIFICAND: Mapping[str, tuple[int, int, int]] = {
    "f64": (53, -1022, 1023), "f32": (24, -126, 127), "bf16": (8, -126, 127),
    "f16": (11, -14, 15), "f8e4m3": (4, -6, 8), "f8e5m2": (3, -14, 15),
}  # fmt: skip
_INTEGER_BITS: Mapping[str, tuple[int, bool]] = {
    "i64": (64, True), "i32": (32, True), "i16": (16, True), "i8": (8, True), "u8": (8, False),
}  # fmt: skip
# What a constant may be folded in: f8 rounding saturates differently from device to device.
FOLDABLE = frozenset({"f64", "f32", "bf16", "f16", "bool"}) | INTEGERS


def embeds(narrow: str, wide: str) -> bool:
    """Whether `wide` holds every number of `narrow` exactly."""
    if narrow == wide:
        return True
    if narrow == "bool":
        return wide in INTEGERS or wide in FLOATS
    if narrow in FLOATS and wide in FLOATS:
        a, b = _SIGNIFICAND[narrow], _SIGNIFICAND[wide]
        # f8e4m3 has no infinity, the others do; subnormals need the wider exponent range.
        return a[0] <= b[0] and a[1] - a[0] >= b[1] - b[0] and a[2] <= b[2] and wide[:2] != "f8"
    if narrow in INTEGERS and wide in FLOATS:
        bits, signed = _INTEGER_BITS[narrow]
        return bits - signed <= _SIGNIFICAND[wide][0] and bits <= _SIGNIFICAND[wide][2]
    if narrow in INTEGERS and wide in INTEGERS:
        (bits, signed), (more, wide_signed) = _INTEGER_BITS[narrow], _INTEGER_BITS[wide]
        return more > bits and (wide_signed or not signed)
    return False


def conversion_is_exact(start: str, middle: str, end: str) -> bool:
    """Whether start -> middle -> end always gives what start -> end gives."""
    if not embeds(start, middle):
        return False
    if start in INTEGERS and middle in FLOATS and end in INTEGERS:
        # A float outside the integer's range converts to anything; integers wrap.
        return embeds(start, end)
    return True


def rounded(value: Number, dtype: str) -> Number | None:
    """`value` as a tensor of `dtype` holds it; None where that is not known here."""
    if dtype not in FOLDABLE:
        return None
    if dtype == "bool":
        return bool(value)
    if dtype in INTEGERS:
        return _as_integer(value, dtype)
    number = float(value)
    if dtype == "f64" or not math.isfinite(number):
        return number
    return _as_float(number, dtype)


def _as_integer(value: Number, dtype: str) -> int | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    whole = int(value)
    bits, signed = _INTEGER_BITS[dtype]
    low = -(1 << (bits - 1)) if signed else 0
    return whole if low <= whole < low + (1 << bits) else None


def _as_float(number: float, dtype: str) -> float | None:
    try:
        single: float = struct.unpack("<f", struct.pack("<f", number))[0]
        if dtype == "f16":
            return struct.unpack("<e", struct.pack("<e", single))[0]
    except OverflowError:
        return math.copysign(math.inf, number)
    if dtype == "bf16":
        (bits,) = struct.unpack("<I", struct.pack("<f", single))
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        single = struct.unpack("<f", struct.pack("<I", bits))[0]
    return single
