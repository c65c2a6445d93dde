"""Where values lie [B, C, H, W] as [B, H, W, C], and which other values had better lie so too."""

from collections.abc import Iterable, Sequence

from effcomp.ir import Dim, Graph, Op, Trait, Value, attr, spec_of
from effcomp.ir.dims import contiguous_strides
from effcomp.passes.grouping.layouts import Layouts
from effcomp.passes.grouping.sizes import is_equal

# Besides elementwise ops: computed element by element, in whatever order the operands lie.
_AGNOSTIC = frozenset({"tensor.concat", "tensor.pad", "tensor.take", "nn.group_norm"})
# [B, C, H, W] read as [B, H, W, C], which moves nothing if it lies so; and the way back.
_TO_LAST, _FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Strides of [B, C, *S] lying in memory as [B, *S, C]."""
    batch, channels, *space = shape
    found = contiguous_strides((batch, *space, channels))
    return (found[0], found[-1], *found[1:-1])


def is_channels_last(value: Value, strides: Sequence[Dim] | None = None) -> bool:
    """Whether a value lies so, by the strides it states or by those given."""
    if len(value.shape) != 4:
        return False
    given = strides or value.strides or contiguous_strides(value.shape)
    wanted = channels_last_strides(value.shape)
    return all(
        size == 1 or is_equal(a, b) for size, a, b in zip(value.shape, given, wanted, strict=True)
    )


class Spread:
    """Layouts spreading from convolutions, both ways, through what takes any layout.

    `last` are the values that lie channels last, `chosen` the convolutions that make and take them.
    """

    def __init__(self, graph: Graph, eligible: Iterable[Op]) -> None:
        self.last: set[Value] = {v for v in graph.params if _states_it(v)}
        self.chosen: set[Op] = set()
        self.free: set[Value] = set()  # permutes of what lies so as it is
        self._ops = graph.ops
        self._eligible = frozenset(eligible)
        self._writable: set[Value] = set()  # values that can be computed in any layout
        layouts = Layouts()
        for op in graph.ops:
            self.last.update(filter(_states_it, op.results))
            if Trait.VIEW not in spec_of(op).traits:
                if op in self._eligible or _is_agnostic(op):
                    self._writable.update(op.results)
            elif not layouts.follow(op):
                self._writable.update(op.results)
            elif _permutes(op, _FROM_LAST) and is_channels_last(op.result, layouts.of(op.result)):
                self.free.add(op.result)

    def run(self, seeds: Iterable[Op]) -> None:
        """Choose these convolutions and spread until nothing more follows."""
        self.chosen.update(seeds)
        found = -1
        while self.chosen and found != (found := len(self.chosen) + len(self.last)):
            for op in self._ops:
                self._forward(op)
            for op in reversed(self._ops):
                self._backward(op)

    def lies(self, value: Value) -> bool:
        return value in self.last or value in self.free or is_channels_last(value)

    def _forward(self, op: Op) -> None:
        if op in self._eligible and self._is_marked(op.operands[0]):
            self.chosen.add(op)
        if op in self.chosen or (_is_agnostic(op) and any(map(self._is_marked, op.operands))):
            self._mark(op.result)

    def _backward(self, op: Op) -> None:
        if op in self._eligible and op.result in self.last:
            self.chosen.add(op)
        if op in self.chosen:
            wanted = op.operands[:2]
        elif _permutes(op, _TO_LAST):
            wanted = op.operands
        else:
            wanted = op.operands if _is_agnostic(op) and op.result in self.last else ()
        for v in wanted:
            if v in self._writable:
                self._mark(v)

    def _is_marked(self, value: Value) -> bool:
        return value in self.last or value in self.free

    def _mark(self, value: Value) -> None:
        """Let a value lie so where that is another layout than the usual, and none is stated."""
        if len(value.shape) == 4 and value.strides is None and not is_channels_last(value):
            self.last.add(value)


def _states_it(value: Value) -> bool:
    return value.strides is not None and is_channels_last(value)


def _permutes(op: Op, dims: tuple[int, ...]) -> bool:
    return op.name == "tensor.permute" and tuple(d % len(dims) for d in attr(op, "dims")) == dims


def _is_agnostic(op: Op) -> bool:
    if len(op.results) != 1:
        return False
    return op.name in _AGNOSTIC or Trait.ELEMENTWISE in spec_of(op).traits
