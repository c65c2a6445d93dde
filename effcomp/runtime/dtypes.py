"""The plan's element types and tags as torch's objects."""

import torch

from effcomp.dtypes import DTYPES
from effcomp.errors import PlanError

__all__ = ["dtype_named", "tag_value"]


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
        case "complex":
            return complex(value)
        case "dtype" if name in DTYPES:
            return DTYPES[name]
        case "dtype" | "layout" | "memory_format":
            found = getattr(torch, name, None)
            if isinstance(found, torch.dtype | torch.layout | torch.memory_format):
                return found
        case _:
            pass
    raise PlanError(f"torch has no {tag} {value!r}")
