"""Concatenations: what is put together and taken apart again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from effcomp.ir import Dim, Op, Value, attr
from effcomp.ir.dims import dim as normal
from effcomp.ir.dims import interval, same, same_shape
from effcomp.ir.ops import indexing, state, view
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Match,
    Pat,
    Refused,
    Rule,
    pat,
    rest,
    var,
)


def at_most(a: Dim, b: Dim) -> bool:
    """Whether a <= b for all sizes, provably."""
    difference = normal(b - a)
    return interval(difference, {})[0] >= 0


def axis_of(op: Op) -> int:
    """The dim of a slice or concat, counted from the front."""
    return attr(op, "dim") % op.operands[0].tensor.rank


@dataclass(frozen=True, slots=True)
class DropEmptyParts(Rule[tuple[Value, ...]]):
    """concat(x, empty) => concat(x); concat(x) => x."""

    def pattern(self) -> Pat:
        return pat(view.concat, rest("xs"))

    def check(self, m: Match) -> tuple[Value, ...] | Refused:
        d = axis_of(m.root)
        parts = tuple(v for v in m.many["xs"] if v.shape[d] != 0) or m.many["xs"][:1]
        return parts if len(parts) < len(m.many["xs"]) or len(parts) == 1 else Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[Value, ...]) -> Value:
        return facts[0] if len(facts) == 1 else b.add(view.concat, *facts, dim=axis_of(m.root))


@dataclass(frozen=True, slots=True)
class FoldConcat(Rule[tuple[Value, ...]]):
    """concat(x, concat(y, z)) => concat(x, y, z), where nothing else reads the inner one."""

    def pattern(self) -> Pat:
        return pat(view.concat, rest("xs"))

    def check(self, m: Match) -> tuple[Value, ...] | Refused:
        parts: list[Value] = []
        for v in m.many["xs"]:
            inner = m.program.producer(v)
            nested = inner is not None and inner.name == "tensor.concat"
            private = nested and m.program.uses(v) == 1
            if inner is not None and private and axis_of(inner) == axis_of(m.root):
                parts += inner.operands
            else:
                parts.append(v)
        return tuple(parts) if len(parts) > len(m.many["xs"]) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[Value, ...]) -> Value:
        return b.add(view.concat, *facts, dim=axis_of(m.root))


@dataclass(frozen=True, slots=True)
class FoldSliceOfConcat(Rule[tuple[tuple[Value, ...], Dim]]):
    """slice(concat(x, y)) => slice(x), or of those parts that the slice provably touches."""

    def pattern(self) -> Pat:
        inner = pat(view.concat, rest("xs")).with_other_users()
        return pat(view.slice_, inner, step=1)

    def check(self, m: Match) -> tuple[tuple[Value, ...], Dim] | Refused:
        d = axis_of(m.interior[0])
        if d != axis_of(m.root):
            return Refused()
        parts = m.many["xs"]
        found = _touched(parts, d, attr(m.root, "start"), attr(m.root, "stop"))
        return found if found is not None and len(found[0]) < len(parts) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[tuple[Value, ...], Dim]) -> Value:
        parts, offset = facts
        d = axis_of(m.root)
        x = parts[0] if len(parts) == 1 else b.add(view.concat, *parts, dim=d)
        start, stop = attr(m.root, "start"), attr(m.root, "stop")
        return b.add(
            view.slice_, x, dim=d, start=normal(start - offset), stop=normal(stop - offset)
        )


def _touched(
    parts: Sequence[Value], d: int, start: Dim, stop: Dim
) -> tuple[tuple[Value, ...], Dim] | None:
    """The shortest run of parts that holds [start, stop), and where that run begins."""
    ends: list[Dim] = [0]
    for v in parts:
        ends.append(normal(ends[-1] + v.shape[d]))
    first = max(i for i in range(len(parts)) if at_most(ends[i], start))
    lasts = [i for i in range(first + 1, len(ends)) if at_most(stop, ends[i])]
    return (tuple(parts[first : lasts[0]]), ends[first]) if lasts else None


@dataclass(frozen=True, slots=True)
class RejoinSlices(Rule[int]):
    """concat(x[a:b], x[b:c]) => x[a:c]."""

    def pattern(self) -> Pat:
        return pat(view.concat, rest("xs"))

    def check(self, m: Match) -> int | Refused:
        makers = [m.program.producer(v) for v in m.many["xs"]]
        for i, (a, b) in enumerate(pairwise(makers)):
            if a is not None and b is not None and _adjacent(a, b, axis_of(m.root)):
                return i
        return Refused()

    def rewrite(self, m: Match, b: Builder, facts: int) -> Value:
        parts = list(m.many["xs"])
        first, second = (m.program.producer(v) for v in parts[facts : facts + 2])
        assert first is not None, "a slice has a maker"
        assert second is not None, "a slice has a maker"
        d = axis_of(m.root)
        joined = b.add(
            view.slice_,
            first.operands[0],
            dim=d,
            start=attr(first, "start"),
            stop=attr(second, "stop"),
        )
        parts[facts : facts + 2] = [joined]
        return parts[0] if len(parts) == 1 else b.add(view.concat, *parts, dim=d)


def _adjacent(a: Op, b: Op, d: int) -> bool:
    slices = a.name == b.name == "tensor.slice" and a.operands[0] is b.operands[0]
    if not slices or axis_of(a) != d or axis_of(b) != d:
        return False
    return attr(a, "step") == attr(b, "step") == 1 and same(attr(a, "stop"), attr(b, "start"))


@dataclass(frozen=True, slots=True)
class DropWholeScatter(Rule[None]):
    """slice_scatter(x, y) over all of x => y."""

    def pattern(self) -> Pat:
        return pat(indexing.slice_scatter, var("x"), var("y"), step=1)

    def check(self, m: Match) -> Refused | None:
        start, stop = attr(m.root, "start"), attr(m.root, "stop")
        whole = same(start, 0) and same(stop, m["x"].shape[axis_of(m.root)])
        return None if whole and same_shape(m["x"].shape, m["y"].shape) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["y"]


@dataclass(frozen=True, slots=True)
class InterleaveParts(Rule[tuple[Value, ...]]):
    """slice_scatter(slice_scatter(x, a, 0::2), b, 1::2) => reshape(concat(a, b)), side by side.

    x is overwritten whole: rotary embeddings fill an empty tensor so. Three parts and more too.
    """

    def pattern(self) -> Pat:
        return pat(indexing.slice_scatter, var("x"), var("y"))

    def check(self, m: Match) -> tuple[Value, ...] | Refused:
        step, size, d = attr(m.root, "step"), m["x"].shape[axis_of(m.root)], axis_of(m.root)
        if step < 2 or not isinstance(size, int) or size % step:
            return Refused()
        parts: dict[int, Value] = {}
        op: Op | None = m.root
        while op is not None and len(parts) < step:
            scatters = op.name == "tensor.slice_scatter" and attr(op, "step") == step
            start = attr(op, "start") if scatters else None
            if not scatters or axis_of(op) != d or not isinstance(start, int) or start >= step:
                return Refused()
            part = op.operands[1]
            if not same(part.shape[d], size // step):
                return Refused()
            parts.setdefault(start, part)
            op = m.program.producer(op.operands[0])
        return tuple(parts[i] for i in range(step)) if len(parts) == step else Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[Value, ...]) -> Value:
        d = axis_of(m.root) + 1
        columns = [b.reshape(v, (*v.shape[:d], 1, *v.shape[d:])) for v in facts]
        return b.reshape(b.add(view.concat, *columns, dim=d), m.root.result.shape)


@dataclass(frozen=True, slots=True)
class UseIndexPut(Rule[Value]):
    """scatter(x, broadcast(i), source) => index_put(x, source, i), over whole slices of x."""

    def pattern(self) -> Pat:
        return pat(indexing.scatter, var("x"), var("index"), var("source"), reduce="none")

    def check(self, m: Match) -> Value | Refused:
        x, source, d = m["x"], m["source"], axis_of(m.root)
        if not same_shape(m["index"].shape, source.shape):
            return Refused()
        others = [i for i in range(x.tensor.rank) if i != d]
        if any(not same(x.shape[i], source.shape[i]) for i in others):
            return Refused()
        maker = m.program.producer(m["index"])
        if maker is None or maker.name != "tensor.broadcast":
            return Refused()
        line = maker.operands[0]
        along = x.tensor.rank - d  # the dim's place, counted from the end
        units = [s for i, s in enumerate(reversed(line.shape), start=1) if i != along]
        fits = line.tensor.rank >= along and same(line.shape[-along], source.shape[d])
        return line if fits and all(s == 1 for s in units) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: Value) -> Value:
        d = axis_of(m.root)
        line = b.reshape(facts, (m["source"].shape[d],))
        return b.add(indexing.index_put, m["x"], m["source"], line, dims=(d,))


@dataclass(frozen=True, slots=True)
class DropSelfWrite(Rule[None]):
    """write(p, p) => nothing."""

    def pattern(self) -> Pat:
        return pat(state.write, var("p"), var("p"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> tuple[Value, ...]:
        return ()


CONCATS: tuple[AnyRule, ...] = (
    DropEmptyParts(),
    FoldConcat(),
    FoldSliceOfConcat(),
    RejoinSlices(),
    DropWholeScatter(),
    InterleaveParts(),
    UseIndexPut(),
    DropSelfWrite(),
)
