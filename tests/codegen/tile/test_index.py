"""Index maps, against numpy's own reshapes and broadcasts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sympy

from effcomp.codegen.tile.index import (
    Index,
    broadcast_index,
    flatten,
    permute_index,
    reshape_index,
    unflatten,
)
from effcomp.ir.dims import bounded, dim, symbol


def _value(expr: Any, at: dict[sympy.Symbol, int]) -> int:
    return int(sympy.sympify(expr).subs(at))


def _check(new: Sequence[int], old: np.ndarray, viewed: np.ndarray, index: Index) -> None:
    symbols = [sympy.Symbol(f"i{d}", integer=True, nonnegative=True) for d in range(len(new))]
    for at in itertools.product(*map(range, new)):
        point = dict(zip(symbols, at, strict=True))
        assert viewed[at] == old[tuple(_value(e, point) for e in index)]


def _symbols(rank: int) -> Index:
    return tuple(sympy.Symbol(f"i{d}", integer=True, nonnegative=True) for d in range(rank))


@pytest.mark.parametrize(
    ("old", "new"),
    [((2, 3, 4), (6, 4)), ((6, 4), (2, 3, 4)), ((2, 6), (2, 3, 2)), ((4, 3), (1, 3, 4)),
     ((1, 1), (1,)), ((2, 1, 3), (2, 3, 1)), ((2, 3, 4), (4, 3, 2)), ((5,), (5, 1, 1))],
)  # fmt: skip
def test_reshape(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    x = np.arange(np.prod(old)).reshape(old)
    _check(new, x, x.reshape(new), reshape_index(_symbols(len(new)), new, old))


def test_permute_and_broadcast() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    _check((4, 2, 3), x, x.transpose(2, 0, 1), permute_index(_symbols(3), (2, 0, 1)))
    y = np.arange(3).reshape(3, 1)
    _check((2, 3, 4), y, np.broadcast_to(y, (2, 3, 4)), broadcast_index(_symbols(3), (3, 1)))


def test_dims_that_a_reshape_leaves_alone_keep_their_positions() -> None:
    s = symbol("s0")
    a, b, c = _symbols(3)
    found = reshape_index((a, b, c), (2, s, 24), (2, s, 3, 8))
    assert found[:2] == (a, b)


def test_flatten_undoes_unflatten() -> None:
    s = symbol("s0")
    i = sympy.Symbol("i", integer=True, nonnegative=True)
    shape = (3, s, 5)
    flat = bounded(sympy.sympify(flatten(unflatten(i, shape), shape)), {i: dim(15 * s)})
    assert flat == i
