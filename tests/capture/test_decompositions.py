"""What tracing takes apart is chosen as torch chooses, without building torch's whole table."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch._decomp import core_aten_decompositions, decomposition_table
from torch._ops import OpOverload

from effcomp.capture.decompositions import (
    EXTRA,
    _decompositions,
    _is_taken_apart,
    aot_decompositions,
)
from effcomp.capture.table.rows import find_overload


def _expected() -> Mapping[OpOverload, Callable[..., Any]]:
    wanted = {*core_aten_decompositions(), *map(find_overload, EXTRA)} & decomposition_table.keys()
    found = {op: decomposition_table[op] for op in wanted if isinstance(op, OpOverload)}
    return {op: parts for op, parts in found.items() if _is_taken_apart(op)}


def test_the_choice_is_torchs() -> None:
    assert dict(aot_decompositions()) == _expected()


def test_a_torch_of_other_private_names_is_asked_for_its_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load, refused = builtins.__import__, list[str]()

    def without(name: str, *args: Any) -> Any:
        if name == "torch.export.decomp_utils" and args[2] == ("PRESERVED_ATEN_CIA_OPS",):
            refused.append(name)
            raise ImportError(name)
        return load(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert dict(_decompositions.__wrapped__()) == _expected()
    assert refused
