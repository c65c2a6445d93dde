"""Reshapes that torch-mlir would guess at: it has no names for sizes, and takes one for another.

Of [?, ?, 8] viewed as [?, 8] it pairs the first sizes and has the second be 1. Which sizes are
joined is known here, and said by a `prims.collapse` for each group of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch

_RESHAPES = frozenset(
    {
        torch.ops.aten.view.default,
        torch.ops.aten.reshape.default,
        torch.ops.aten._unsafe_view.default,
    }
)
Group = tuple[range, range]  # dims before, and the dims after that hold the same elements


def spell_out_reshapes(module: torch.fx.GraphModule) -> None:
    """view([a, b, 8], [a * b, 8]) => collapse(0, 1), in reshapes of dynamic sizes."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in _RESHAPES:
            _spell_out(node)


def _spell_out(node: torch.fx.Node) -> None:
    source: Any = node.args[0]
    before, after = source.meta["val"].shape, node.meta["val"].shape
    if not any(isinstance(size, torch.SymInt) for size in (*before, *after)):
        return
    groups = _groups(before, after)
    for old, _ in reversed(groups):  # from the back: positions in front stay what they are
        if len(old) > 1:
            source = _collapse(node, source, old[0], old[-1])
    if all(len(new) == 1 for _, new in groups):
        node.replace_all_uses_with(source)
        node.graph.erase_node(node)
    else:
        node.args = (source, *node.args[1:])


def _collapse(node: torch.fx.Node, source: torch.fx.Node, start: int, end: int) -> torch.fx.Node:
    with node.graph.inserting_before(node):
        made = node.graph.call_function(torch.ops.prims.collapse.default, (source, start, end))
    made.meta = {k: v for k, v in node.meta.items() if k != "tensor_meta"}
    made.meta["val"] = source.meta["val"].flatten(start, end)
    return made


def _groups(before: Sequence[Any], after: Sequence[Any]) -> list[Group]:
    """The smallest groups of neighbouring dims that hold as many elements before as after."""
    exprs = [list(map(_expr, before)), list(map(_expr, after))]
    symbols = sorted({s for side in exprs for e in side for s in e.free_symbols}, key=str)
    # A number for every size says which side is to be joined next.
    numbers = {s: 64 * sympy.prime(n) for n, s in enumerate(symbols, 3)}
    groups: list[Group] = []
    i = j = 0
    while i < len(before) and j < len(after):
        first, start = i, j
        left, right = exprs[0][i], exprs[1][j]
        i, j = i + 1, j + 1
        while not _same(left, right, numbers) and (i < len(before) or j < len(after)):
            behind = left.subs(numbers) < right.subs(numbers)
            if (behind and i < len(before)) or j == len(after):
                left, i = left * exprs[0][i], i + 1
            else:
                right, j = right * exprs[1][j], j + 1
        groups.append((range(first, i), range(start, j)))
    if groups:  # what is left are sizes of 1
        old, new = groups[-1]
        groups[-1] = range(old.start, len(before)), range(new.start, len(after))
    return groups


def _same(a: sympy.Expr, b: sympy.Expr, numbers: Mapping[sympy.Symbol, int]) -> bool:
    """Whether sizes are equal; of roundings that sympy cannot see through the numbers decide."""
    apart = sympy.expand(a - b)
    return apart == 0 or (apart.has(sympy.Function) and apart.subs(numbers) == 0)


def _expr(size: Any) -> sympy.Expr:
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
