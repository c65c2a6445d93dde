"""How a row of the table is declared."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from effcomp.ir import Value

Row = Callable[..., Value | tuple[Value | None, ...]]
"""Takes a builder and the operator's arguments; tensors are Values, symbolic sizes dims."""

Declared = TypeVar("Declared", bound=Row)

ROWS: dict[torch._ops.OpOverload, Row] = {}


def row(*names: str) -> Callable[[Declared], Declared]:
    """Declare how operators such as "add.Tensor" are imported ("prims.iota.default" for others).

    One that this version of torch does not have is passed over.
    """

    def declare(function: Declared) -> Declared:
        for name in names:
            if (overload := find_overload(name)) is not None:
                if overload in ROWS:
                    raise ValueError(f"operator {name} has two rows")
                ROWS[overload] = function
        return function

    return declare


def find_overload(name: str) -> torch._ops.OpOverload | None:
    """The operator called "mul.Tensor" or "prims.iota.default"; None if torch has none."""
    parts = name.split(".")
    found: Any = torch.ops if len(parts) == 3 else torch.ops.aten
    for part in parts:
        found = getattr(found, part, None)
    return found
