"""Broadcasting is what elementwise ops do by themselves: no views for it before them."""

from dataclasses import dataclass

from effcomp.ir import SPECS, Trait, Value
from effcomp.ir.dims import same_shape
from effcomp.ir.ops import view
from effcomp.passes.canonical.constants import keeps_shape, rebuild
from effcomp.rewrite import AnyRule, Builder, Match, Pat, Refused, Rule, either, pat, rest

_ELEMENTWISE = tuple(s for s in SPECS.values() if Trait.ELEMENTWISE in s.traits and s.operands)


@dataclass(frozen=True, slots=True)
class SinkBroadcast(Rule[tuple[Value, ...]]):
    """op(broadcast(x), y) => op(x, y), broadcast afterwards where y does not give the shape."""

    def pattern(self) -> Pat:
        return either(*(pat(s, rest("xs")) for s in _ELEMENTWISE))

    def check(self, m: Match) -> tuple[Value, ...] | Refused:
        found = tuple(_broadcast_source(m, v) for v in m.root.operands)
        changed = any(a is not b for a, b in zip(found, m.root.operands, strict=True))
        return found if changed else Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[Value, ...]) -> Value:
        made = rebuild(m.root, b, list(facts))
        shape = m.root.result.shape
        if same_shape(made.shape, shape):
            return made
        return b.add(view.broadcast_to, made, shape=shape)


def _broadcast_source(m: Match, value: Value) -> Value:
    maker = m.program.producer(value)
    return maker.operands[0] if maker is not None and maker.name == "tensor.broadcast" else value


@dataclass(frozen=True, slots=True)
class DropLeadingUnits(Rule[tuple[int, Value]]):
    """op(x: [2, 4], reshape(y: [4], [1, 4])) => op(x, y)."""

    def pattern(self) -> Pat:
        return either(*(pat(s, rest("xs")) for s in _ELEMENTWISE if len(s.operands) > 1))

    def check(self, m: Match) -> tuple[int, Value] | Refused:
        for i, v in enumerate(m.root.operands):
            maker = m.program.producer(v)
            if maker is None or maker.name != "tensor.reshape":
                continue
            source = maker.operands[0]
            extra = v.tensor.rank - source.tensor.rank
            if extra <= 0 or not same_shape(v.shape, (1,) * extra + source.shape):
                continue
            if keeps_shape(m.root, i, source.shape):
                return i, source
        return Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[int, Value]) -> Value:
        index, source = facts
        operands = list(m.root.operands)
        operands[index] = source
        return rebuild(m.root, b, operands)


BROADCASTING: tuple[AnyRule, ...] = (SinkBroadcast(), DropLeadingUnits())
