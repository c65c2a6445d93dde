"""How often a group computes each of its values: once for every index map it is read at."""

from collections.abc import Sequence
from dataclasses import dataclass

from effcomp.ir import Op, Value, attr
from effcomp.ir.cost import FUNCTION_FLOPS, ROW_FLOPS
from effcomp.ir.dims import Dim
from effcomp.passes.grouping.sizes import is_same_shape
from effcomp.passes.grouping.vocabulary import (
    LOOKUPS,
    NORMS,
    REDUCTIONS,
    VIEWS,
    is_elementwise,
)

MOST_MAPS = 12

# An index map, as the steps from the loop's index to the value's: () is the loop's own index.
Step = tuple[str, object]
IndexMap = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """`flops` for one element of the loop; `maps` at which each value is read."""

    flops: int
    maps: dict[Value, set[IndexMap]]

    @property
    def most_maps(self) -> int:
        return max(map(len, self.maps.values()), default=0)


def demand_of(ops: Sequence[Op], outputs: Sequence[Value], domain: Sequence[Dim]) -> Demand:
    """Walk a group's ops, last first, from `outputs` to what they read.

    The loop runs over `domain`; an output of another shape is indexed by its row-major position.
    """
    start: IndexMap = (("tensor.reshape", tuple(domain)),)
    maps: dict[Value, set[IndexMap]] = {
        v: {() if is_same_shape(v.shape, domain) else start} for v in outputs
    }
    flops = 0
    for op in reversed(ops):
        at = {m for r in op.results for m in maps.get(r, ())}
        if not at:
            continue
        if len(at) > MOST_MAPS:
            break
        flops += _flops(op, len(at)) if op.operands else 0
        for i, v in enumerate(op.operands):
            read = maps.setdefault(v, set())
            read.update(_through(op, i, m) for m in at)
            if op.name in NORMS and i == 0:
                read.add(())
    return Demand(flops, maps)


def _flops(op: Op, times: int) -> int:
    if op.name in REDUCTIONS:
        return 1
    if op.name in NORMS:
        return ROW_FLOPS[op.name] + 2 * times
    if not op.results[0].shape:
        return 0  # a scalar is computed once a block
    return times * FUNCTION_FLOPS.get(op.name, 1) if is_elementwise(op) else 0


def _through(op: Op, operand: int, at: IndexMap) -> IndexMap:
    """The map at which an op's operand is read when its result is read at `at`."""
    value, result = op.operands[operand], op.results[0]
    if op.name in REDUCTIONS:
        return ()
    if op.name == "tensor.reshape":
        return _reshaped(at, value, result)
    if op.name == "tensor.permute":
        dims = attr(op, "dims")
        moved = dims[-1] % len(dims) != len(dims) - 1 if dims else False
        return (*at, (op.name, dims), (op.name, "moved" if moved else ""))
    if op.name in VIEWS or op.name in LOOKUPS or op.name == "tensor.pad":
        return (*at, (op.name, (operand, *sorted((k, str(v)) for k, v in op.attrs.items()))))
    if op.name == "tensor.concat":
        return (*at, (op.name, (operand, attr(op, "dim"))))
    if value.shape == result.shape or is_same_shape(value.shape, result.shape):
        return at
    return (*at, ("tensor.broadcast", value.shape))


def is_scattered(at: IndexMap) -> bool:
    """Whether a read at this map takes another dim innermost."""
    return any(kind == "tensor.permute" and step == "moved" for kind, step in at)


def _reshaped(at: IndexMap, value: Value, result: Value) -> IndexMap:
    """Reshapes in a row are one: the row-major position stays; back to where it began is none."""
    if at and at[-1][0] == "tensor.reshape":
        began = at[-1][1]
        return at[:-1] if began == value.shape else at
    return (*at, ("tensor.reshape", result.shape))
