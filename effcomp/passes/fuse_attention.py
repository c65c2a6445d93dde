"""fuse-attention: softmax(q k^T) v, however a model writes it, becomes one nn.attention."""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Dim, Graph, Level, Op, Value, attr
from effcomp.ir.dims import product, same, same_shape
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import nn, view
from effcomp.passes.aliases import keep_outputs_apart
from effcomp.passes.attention.chain import Peeled, Scores, peel, read_scores
from effcomp.passes.attention.masks import build_mask, check_mask, mask_facts
from effcomp.passes.canonical.views import VIEWS
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Log,
    Match,
    Pat,
    Refused,
    Rule,
    apply_rules,
    attr_var,
    maybe,
    maybe_var,
    pat,
    var,
)


@dataclass(frozen=True, slots=True)
class RaiseProduct(Rule[tuple[Dim, ...]]):
    """matmul(reshape(a: [B, H, M, K], [B*H, M, K]), b) => reshape(matmul(a, reshape(b)))."""

    def pattern(self) -> Pat:
        return pat(nn.matmul, var("a"), var("b"))

    def check(self, m: Match) -> tuple[Dim, ...] | Refused:
        if m["a"].tensor.rank != 3:
            return Refused()
        makers = [m.program.producer(m[name]) for name in "ab"]
        for maker in makers:
            if maker is None or maker.name != "tensor.reshape":
                return Refused()
        for maker in makers:
            assert maker is not None, "looked at above"
            x, merged = maker.operands[0], maker.result
            if x.tensor.rank == 4 and same_shape(x.shape[-2:], merged.shape[-2:]):
                return x.shape[:2]
        return Refused()

    def rewrite(self, m: Match, b: Builder, facts: tuple[Dim, ...]) -> Value:
        a, w = (_raised(m, b, m[name], facts) for name in "ab")
        return b.reshape(b.add(nn.matmul, a, w), m.root.result.shape)


def _raised(m: Match, b: Builder, value: Value, leading: tuple[Dim, ...]) -> Value:
    maker = m.program.producer(value)
    assert maker is not None, "reshapes have makers"
    return b.reshape(maker.operands[0], (*leading, *value.shape[-2:]))


@dataclass(frozen=True, slots=True)
class SinkReshape(Rule[None]):
    """softmax(reshape(x)) => reshape(softmax(x)), where each row stays a row; convert too."""

    def pattern(self) -> Pat:
        inner = pat(view.reshape, var("x"))
        return pat((nn.softmax, el.convert), inner)

    def check(self, m: Match) -> Refused | None:
        if m.root.name == "tensor.convert":
            return None
        x, rank = m["x"], m.root.result.tensor.rank
        rows = x.shape and rank and attr(m.root, "dim") % rank == rank - 1
        return None if rows and same(x.shape[-1], m.root.result.shape[-1]) else Refused()

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        if m.root.name == "tensor.convert":
            made = b.convert(m["x"], m.root.result.dtype)
        else:
            made = b.add(nn.softmax, m["x"], dim=-1, dtype=m.root.attrs.get("dtype"))
        return b.reshape(made, m.root.result.shape)


@dataclass(frozen=True, slots=True)
class _Parts:
    scores: Scores
    q: Peeled
    k: Peeled
    dtype: str


@dataclass(frozen=True, slots=True)
class JoinAttention(Rule[_Parts]):
    """softmax(scale * q @ k^T + mask) @ v => attention(q, k, v, mask)."""

    def pattern(self) -> Pat:
        weights = pat(nn.softmax, var("scores"), dim=attr_var("dim"))
        return pat(nn.matmul, maybe(lambda p: pat(el.convert, p), weights), var("v"))

    def check(self, m: Match) -> _Parts | Refused:
        v, rank = m["v"], m["v"].tensor.rank
        if rank < 3:
            return Refused("a matrix has no heads")
        if attr(m.interior[-1], "dim") % rank != rank - 1:
            return Refused("softmax is not over the keys")
        scores = read_scores(m.program, m["scores"])
        if isinstance(scores, Refused):
            return scores
        q, k = (peel(m.program, x, v.dtype) for x in (scores.a, scores.b))
        if not q.base.dtype == k.base.dtype == v.dtype:
            return Refused(f"q is {q.base.dtype}, k is {k.base.dtype}, v is {v.dtype}")
        if v.dtype not in ("f64", "f32", "bf16", "f16"):
            return Refused(f"attention of {v.dtype}")
        for mask in scores.masks:
            if (refused := check_mask(m.program, mask, v.dtype)) is not None:
                return refused
        return _Parts(scores, q, k, v.dtype)

    def rewrite(self, m: Match, b: Builder, facts: _Parts) -> Value:
        q, k = facts.q.build(b), facts.k.build(b)
        rank = k.tensor.rank
        k = b.add(view.permute, k, dims=(*range(rank - 2), rank - 1, rank - 2))
        masks = [build_mask(m.program, b, mask, facts.dtype) for mask in facts.scores.masks]
        while len(masks) > 1:
            masks[:2] = [b.add(el.add, masks[0], masks[1])]
        scale = float(facts.scores.scale * facts.q.factor * facts.k.factor)
        return b.add(nn.attention, q, k, m["v"], *masks, scale=scale)


@dataclass(frozen=True, slots=True)
class GroupHeads(Rule[tuple[Value, Value, tuple[Dim, ...], tuple[Dim, ...]]]):
    """attention(q, repeat(k), repeat(v)) => attention(q, k, v), query heads sharing key heads."""

    def pattern(self) -> Pat:
        return pat(nn.attention, var("q"), var("k"), var("v"), maybe_var("mask"))

    def check(self, m: Match) -> tuple[Value, Value, tuple[Dim, ...], tuple[Dim, ...]] | Refused:
        k, v = (_unrepeated(m, m[name]) for name in "kv")
        if k is None or v is None:
            return Refused()
        if not same(k[1][-3], v[1][-3]):
            return Refused("keys and values are repeated differently")
        if not isinstance(k[1][-3], int) or not isinstance(m["q"].shape[-3], int):
            return Refused("the number of heads is not known")
        return k[0], v[0], k[1], v[1]

    def rewrite(
        self, m: Match, b: Builder, facts: tuple[Value, Value, tuple[Dim, ...], tuple[Dim, ...]]
    ) -> Value:
        k, v = b.reshape(facts[0], facts[2]), b.reshape(facts[1], facts[3])
        return _rebuilt(m, b, k, v, m.get("mask"))


def _unrepeated(m: Match, value: Value) -> tuple[Value, tuple[Dim, ...]] | None:
    """What a repeat along the head dim repeats, and the shape it has to be read in."""
    maker = m.program.producer(value)
    if maker is None:
        return None
    if maker.name == "tensor.broadcast":
        return _repeated_from_one(maker)
    spread = m.program.producer(maker.operands[0]) if maker.name == "tensor.reshape" else None
    if spread is None or spread.name != "tensor.broadcast":
        return None
    x, wide = spread.operands[0], spread.result.shape
    rank = value.tensor.rank
    if x.tensor.rank != rank + 1 or len(wide) != rank + 1:
        return None
    merged = (*wide[:-4], product(wide[-4:-2]), *wide[-2:])
    once = (*wide[:-3], 1, *wide[-2:])
    if not (same_shape(merged, value.shape) and same_shape(x.shape, once)):
        return None
    return x, (*wide[:-3], *wide[-2:])


def _repeated_from_one(spread: Op) -> tuple[Value, tuple[Dim, ...]] | None:
    x, wide = spread.operands[0], spread.result.shape
    once = (*wide[:-3], 1, *wide[-2:])
    fits = x.tensor.rank == len(wide) and same_shape(x.shape, once) and wide[-3] != 1
    return (x, once) if fits else None


def _rebuilt(m: Match, b: Builder, k: Value, v: Value, mask: Value | None) -> Value:
    masks = () if mask is None else (mask,)
    scale, causal = attr(m.root, "scale"), attr(m.root, "causal")
    return b.add(nn.attention, m["q"], k, v, *masks, scale=scale, causal=causal)


@dataclass(frozen=True, slots=True)
class DropMask(Rule[bool]):
    """attention(q, k, v, all true) => attention(q, k, v); a triangle of trues => causal."""

    def pattern(self) -> Pat:
        return pat(nn.attention, var("q"), var("k"), var("v"), var("mask"))

    def check(self, m: Match) -> bool | Refused:
        everything, causal = mask_facts(m.program, m["mask"], m["q"], m["k"])
        if everything:
            return bool(attr(m.root, "causal"))
        return True if causal else Refused()

    def rewrite(self, m: Match, b: Builder, facts: bool) -> Value:
        return b.add(
            nn.attention, m["q"], m["k"], m["v"], scale=attr(m.root, "scale"), causal=facts
        )


@dataclass(frozen=True, slots=True)
class NarrowMask(Rule[Value]):
    """attention(q, k, v, broadcast(mask)) => attention(q, k, v, mask): it broadcasts by itself."""

    def pattern(self) -> Pat:
        spread = pat(view.broadcast_to, var("mask")).with_other_users()
        return pat(nn.attention, var("q"), var("k"), var("v"), spread)

    def check(self, m: Match) -> Value | Refused:
        mask, q = m["mask"], m["q"]
        # The last two dims stay: kernels read the mask's rows with a stride of their own.
        wide = m.root.operands[3].shape
        if mask.tensor.rank < 2 or not same_shape(mask.shape[-2:], wide[-2:]):
            return Refused()
        missing = q.tensor.rank - mask.tensor.rank
        return mask if missing >= 0 else Refused()

    def rewrite(self, m: Match, b: Builder, facts: Value) -> Value:
        return _rebuilt(m, b, m["k"], m["v"], facts)


RULES: tuple[AnyRule, ...] = (
    RaiseProduct(),
    SinkReshape(),
    JoinAttention(),
    GroupHeads(),
    DropMask(),
    NarrowMask(),
)


@dataclass(frozen=True, slots=True)
class FuseAttention:
    """Find attention written out, and say less where attention is whole already."""

    name: ClassVar[str] = "fuse-attention"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        return keep_outputs_apart(graph, apply_rules(graph, (*RULES, *VIEWS), log))
