"""Drop statements whose results nothing reads."""

from collections.abc import Sequence
from dataclasses import replace

from effcomp.codegen.tile.index import expr
from effcomp.codegen.tile.ir import (
    Accumulate,
    Loop,
    Statement,
    Store,
    TileValue,
    operands_of,
    positions_of,
    results_of,
)


def prune(body: Sequence[Statement]) -> tuple[Statement, ...]:
    """The statements that store or accumulate, and all that these read."""
    return _prune(body, set())


def _prune(body: Sequence[Statement], read: set[str]) -> tuple[Statement, ...]:
    """`read` gains the names that the kept statements read."""
    kept: list[Statement] = []
    for statement in reversed(body):
        if isinstance(statement, Loop):
            kept.append(replace(statement, body=_prune(statement.body, read)))
            continue
        acts = isinstance(statement, (Store, Accumulate))
        if not acts and not any(r.name in read for r in results_of(statement)):
            continue
        kept.append(statement)
        read.update(o.name for o in operands_of(statement) if isinstance(o, TileValue))
        read.update(s.name for p in positions_of(statement) for s in expr(p).free_symbols)
    return tuple(reversed(kept))
