"""Views of views: one where there were two, none where there was one."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from effcomp.ir import Dim, Value, attr
from effcomp.ir.dims import dim as normal
from effcomp.ir.dims import same, same_shape
from effcomp.ir.ops import view
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Match,
    Pat,
    Refused,
    Rule,
    attr_var,
    pat,
    var,
)


def without_units(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The dims that are not 1."""
    return tuple(d for d in shape if d != 1)


@dataclass(frozen=True, slots=True)
class DropIdentityView(Rule[None]):
    """A reshape, permute, broadcast, slice or flip that changes nothing => its operand."""

    def pattern(self) -> Pat:
        kinds = (view.reshape, view.permute, view.broadcast_to, view.slice_, view.flip)
        return pat(kinds, var("x"))

    def check(self, m: Match) -> Refused | None:
        op, x = m.root, m["x"]
        dims: tuple[int, ...]
        match op.name:
            case "tensor.permute":
                nothing = tuple(attr(op, "dims")) == tuple(range(x.tensor.rank))
            case "tensor.slice":
                d: int = attr(op, "dim")
                size = x.shape[d]
                whole = same(attr(op, "start"), 0) and same(attr(op, "stop"), size)
                nothing = whole and attr(op, "step") == 1
            case "tensor.flip":
                dims = attr(op, "dims")
                nothing = all(x.shape[d] == 1 for d in dims)
            case _:
                nothing = same_shape(x.shape, op.result.shape)
        return None if nothing else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


@dataclass(frozen=True, slots=True)
class FoldReshape(Rule[None]):
    """reshape(reshape(x)) => reshape(x)."""

    def pattern(self) -> Pat:
        return pat(view.reshape, pat(view.reshape, var("x")).with_other_users())

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.reshape(m["x"], m.root.result.shape)


@dataclass(frozen=True, slots=True)
class FoldPermute(Rule[None]):
    """permute(permute(x, p), q) => permute(x, p[q])."""

    def pattern(self) -> Pat:
        inner = pat(view.permute, var("x"), dims=attr_var("inner")).with_other_users()
        return pat(view.permute, inner, dims=attr_var("outer"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        inner: Any = m.attrs["inner"]
        outer: Any = m.attrs["outer"]
        return b.add(view.permute, m["x"], dims=tuple(inner[d] for d in outer))


@dataclass(frozen=True, slots=True)
class FoldBroadcast(Rule[None]):
    """broadcast(broadcast(x)) => broadcast(x); broadcast(reshape(x, [1, n])) => broadcast(x)."""

    def pattern(self) -> Pat:
        inner = pat((view.broadcast_to, view.reshape), var("x")).with_other_users()
        return pat(view.broadcast_to, inner)

    def check(self, m: Match) -> Refused | None:
        inner, x = m.root.operands[0], m["x"]
        if m.interior[0].name == "tensor.broadcast" or _prepends_units(x.shape, inner.shape):
            return None
        return Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.add(view.broadcast_to, m["x"], shape=m.root.result.shape)


def _prepends_units(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> bool:
    """Whether `new` is `old` with dims of size 1 in front."""
    extra = len(new) - len(old)
    return extra >= 0 and all(d == 1 for d in new[:extra]) and same_shape(new[extra:], old)


@dataclass(frozen=True, slots=True)
class FoldFlip(Rule[None]):
    """flip(flip(x, d), e) => flip(x, d ^ e)."""

    def pattern(self) -> Pat:
        return pat(view.flip, pat(view.flip, var("x")).with_other_users())

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        rank = m["x"].tensor.rank
        inner = {d % rank for d in attr(m.interior[0], "dims")}
        outer = {d % rank for d in attr(m.root, "dims")}
        dims = tuple(sorted(inner ^ outer))
        return b.add(view.flip, m["x"], dims=dims) if dims else m["x"]


@dataclass(frozen=True, slots=True)
class FoldSlice(Rule[None]):
    """slice(slice(x, a:b), c:d) => slice(x, a+c:a+d), along the same dim."""

    def pattern(self) -> Pat:
        inner = pat(view.slice_, var("x"), step=attr_var("inner_step")).with_other_users()
        return pat(view.slice_, inner)

    def check(self, m: Match) -> Refused | None:
        rank = m["x"].tensor.rank
        along = attr(m.root, "dim") % rank == attr(m.interior[0], "dim") % rank
        return None if along and m.attrs["inner_step"] == 1 else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        first = attr(m.interior[0], "start")
        return b.add(
            view.slice_,
            m["x"],
            dim=attr(m.root, "dim"),
            start=normal(first + attr(m.root, "start")),
            stop=normal(first + attr(m.root, "stop")),
            step=attr(m.root, "step"),
        )


@dataclass(frozen=True, slots=True)
class UseReshape(Rule[None]):
    """A permute that moves only dims of size 1, a broadcast that only adds some => reshape."""

    def pattern(self) -> Pat:
        return pat((view.permute, view.broadcast_to), var("x"))

    def check(self, m: Match) -> Refused | None:
        op, x = m.root, m["x"]
        if op.name == "tensor.broadcast":
            adds = op.result.tensor.rank > x.tensor.rank
            only = adds and _prepends_units(x.shape, op.result.shape)
        else:
            moved = [d for d in attr(op, "dims") if x.shape[d] != 1]
            is_identity = tuple(attr(op, "dims")) == tuple(range(x.tensor.rank))
            only = not is_identity and all(a < b for a, b in pairwise(moved))
        return None if only else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return b.reshape(m["x"], m.root.result.shape)


@dataclass(frozen=True, slots=True)
class ReshapeBeforeBroadcast(Rule[None]):
    """reshape(broadcast(x)) => broadcast(reshape(x)), where x has one element."""

    def pattern(self) -> Pat:
        return pat(view.reshape, pat(view.broadcast_to, var("x")).with_other_users())

    def check(self, m: Match) -> Refused | None:
        return None if not without_units(m["x"].shape) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        shape = m.root.result.shape
        return (
            b.add(view.broadcast_to, b.reshape(m["x"], ()), shape=shape)
            if shape
            else (b.reshape(m["x"], ()))
        )


@dataclass(frozen=True, slots=True)
class DropCopy(Rule[None]):
    """copy(x) => x, where x is computed here and the copy stays inside."""

    def pattern(self) -> Pat:
        return pat(view.copy, var("x"))

    def check(self, m: Match) -> Refused | None:
        value = m["x"]
        while (maker := m.program.producer(value)) is not None and maker.operands:
            if maker.name.startswith("state."):
                return Refused("the copied value may be overwritten")
            if maker.name not in _VIEWS:
                break
            value = maker.operands[0]
        if maker is None:
            return Refused("the copied value belongs to the caller")
        if _reaches_output(m, m.root.result):
            return Refused()
        return None

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


_VIEWS = frozenset(
    s.name for s in (view.reshape, view.permute, view.broadcast_to, view.slice_, view.flip)
)


def _reaches_output(m: Match, value: Value) -> bool:
    if m.program.is_output(value):
        return True
    readers = m.program.readers(value)
    return any(_reaches_output(m, r.result) for r in readers if r.name in _VIEWS) or any(
        r.name.startswith("state.") or r.name == "aten.call" for r in readers
    )


VIEWS: tuple[AnyRule, ...] = (
    DropIdentityView(),
    FoldReshape(),
    FoldPermute(),
    FoldBroadcast(),
    FoldFlip(),
    FoldSlice(),
    UseReshape(),
    ReshapeBeforeBroadcast(),
    DropCopy(),
)
