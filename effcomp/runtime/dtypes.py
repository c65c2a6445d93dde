"""The plan's element types and tags as torch's objects."""

from collections.abc import Mapping

import torch

from effcomp.errors import PlanError

__all__ = ["DTYPES", "dtype_named", "tag_value"]

DTYPES: Mapping[str, torch.dtype] = {
    "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
    "f8e4m3": torch.float8_e4m3fn, "f8e5m2": torch.float8_e5m2,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8,
    "u8": torch.uint8, "bool": torch.bool, "c64": torch.complex64, "c128": torch.complex128,
    "u64": torch.uint64,
}  # fmt: skip


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype of an element type. Raises PlanError."""
    if name not in DTYPES:
        raise PlanError(f"no element type {name!r}; there are: {', '.join(DTYPES)}")
    return DTYPES[name]


def tag_value(tag: str, value: str, device: torch.device) -> object:
    """The torch constant that a TagArg names; device "plan" is `device`. Raises PlanError."""
    name = value.removeprefix("torch.")
    match tag:
        case "device":
            return device if value == "plan" else torch.device(value)
        case "dtype" if name in DTYPES:
            return DTYPES[name]
        case "dtype" | "layout" | "memory_format":
            found = getattr(torch, name, None)
            if isinstance(found, torch.dtype | torch.layout | torch.memory_format):
                return found
        case _:
            pass
    raise PlanError(f"torch has no {tag} {value!r}")
