"""split-norms: group norms become row statistics; few long rows are reduced chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from effcomp.ir import Dim, Graph, Level, Value, attr
from effcomp.ir.dims import dim, product
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import nn, reduction, view
from effcomp.passes.channels_last import channels_last_strides, is_channels_last
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Log,
    Match,
    Pat,
    Refused,
    Rule,
    apply_rules,
    maybe_var,
    pat,
    var,
)
from effcomp.target import TARGETS, Target

# Rows shorter than this are read once by one program, however few there are.
LONG_ROW = 1 << 14
# Elements that one program reduces: neighbours in memory, or pixels of a block of channels.
DENSE_CHUNK, STRIDED_CHUNK = 2048, 128
SHORTEST_CHUNK = 16
PROGRAMS = 4  # wanted for each processor
MOST_PARTIAL = 8192  # chunks of a row


@dataclass(frozen=True, slots=True)
class Chunks:
    """[batch, groups, channels, count * size]: every group is reduced over all but the batch."""

    batch: int
    groups: int
    channels: int
    count: int
    size: int


def chunks_of(
    batch: Dim, groups: int, channels: int, space: Dim, *, strided: bool, target: Target
) -> Chunks | Refused:
    """How to cut rows that are too few for the device; refused with a reason where they are not."""
    if not isinstance(batch, int) or not isinstance(space, int):
        return Refused()
    if batch * groups >= target.processors or channels * space < LONG_ROW:
        return Refused()
    most = STRIDED_CHUNK if strided else DENSE_CHUNK
    enough = batch * groups * channels * space // (PROGRAMS * target.processors)
    most = min(space, most, max(enough, SHORTEST_CHUNK))
    most = max(most, channels * space // MOST_PARTIAL)  # one program combines a row's chunks
    size = next(n for n in range(most, 0, -1) if space % n == 0)
    if size < SHORTEST_CHUNK or channels * space == size:
        return Refused(f"rows of {space} elements have no chunks of at most {most}")
    return Chunks(batch, groups, channels, space // size, size)


def _statistics(b: Builder, wide: Value, chunks: Chunks, eps: float) -> tuple[Value, Value]:
    """Mean and 1 / deviation of each group, [batch, groups, 1, 1], in two steps.

    Chan's formula: the squares around the mean of all are those around each chunk's own mean, plus
    the chunk's size times the square of the distance between the two means.
    """
    c = chunks
    cut = b.reshape(wide, (c.batch, c.groups * c.channels, c.count, c.size))
    # Chunks of neighbouring channels are computed together where channels are neighbours.
    last = channels_last_strides((c.batch, c.groups * c.channels, c.count, 1))
    strides = last if wide.strides is not None else None
    means = _laid_out(b, b.add(reduction.mean, cut, dims=(3,), keepdim=True), strides)
    apart = b.add(el.sub, cut, means)
    squares = b.add(reduction.sum_, b.add(el.mul, apart, apart), dims=(3,), keepdim=True)
    squares = _laid_out(b, squares, strides)

    shape = (c.batch, c.groups, c.channels, c.count)
    means, squares = b.reshape(means, shape), b.reshape(squares, shape)
    mean = b.add(reduction.mean, means, dims=(2, 3), keepdim=True)
    shift = b.add(el.sub, means, mean)
    between = b.add(el.mul, b.add(el.mul, shift, shift), b.constant(float(c.size), "f32"))
    total = b.add(reduction.sum_, b.add(el.add, squares, between), dims=(2, 3), keepdim=True)
    count = b.constant(float(c.channels * c.count * c.size), "f32")
    variance = b.add(el.add, b.add(el.div, total, count), b.constant(eps, "f32"))
    return mean, b.add(el.rsqrt, variance)


def _laid_out(b: Builder, value: Value, strides: Sequence[Dim] | None) -> Value:
    """The value that was added last, in a layout."""
    if strides is None:
        return value
    last = b.ops[-1]
    assert last.result is value, "only the last op can still be changed"
    made = replace(value, strides=tuple(strides))
    b.ops[-1] = replace(last, results=(made,))
    return made


def _widened(b: Builder, x: Value) -> Value:
    """x in float32, lying as it did."""
    return x if x.dtype == "f32" else _laid_out(b, b.convert(x, "f32"), x.strides)


def _by_group(x: Value, groups: int) -> tuple[Dim, ...] | None:
    """The strides of x seen as [B, groups, C / groups, *S]."""
    if x.strides is None:
        return None
    outer, inner, *rest = x.strides
    channels = x.shape[1]
    assert isinstance(channels, int), "checked"
    return (outer, dim(inner * (channels // groups)), inner, *rest)


def _with_affine(b: Builder, normed: Value, m: Match, shape: Sequence[Dim], like: Value) -> Value:
    """normed * w + b, the weights seen under `shape`; rounded once, and lying as `like` does."""
    for spec, affine in ((el.mul, m.get("w")), (el.add, m.get("b"))):
        if affine is not None:
            normed = b.add(spec, normed, b.reshape(b.convert(affine, "f32"), tuple(shape)))
    return _laid_out(b, b.convert(normed, like.dtype), like.strides)


@dataclass(frozen=True, slots=True)
class SplitGroupNorm(Rule[Chunks | None]):
    """group_norm(x, w, b) => layer_norm over each group, then * w + b by channel, in float32.

    Few long groups: (x - mean) * rstd * w + b, the statistics taken chunk by chunk.
    """

    target: Target

    def pattern(self) -> Pat:
        return pat(nn.group_norm, var("x"), maybe_var("w"), maybe_var("b"))

    def check(self, m: Match) -> Chunks | Refused | None:
        x, groups = m["x"], attr(m.root, "groups")
        if x.dtype == "f64":
            return Refused("float64 is kept whole")
        channels = x.shape[1]
        if not isinstance(channels, int):
            return Refused("the number of channels is not known")
        last = x.strides is not None and is_channels_last(x)
        if x.strides is not None and not last:
            return None
        found = chunks_of(
            x.shape[0], groups, channels // groups, product(x.shape[2:]),
            strided=last, target=self.target,
        )  # fmt: skip
        return None if isinstance(found, Refused) else found

    def rewrite(self, m: Match, b: Builder, facts: Chunks | None) -> Value:
        x, groups, eps = m["x"], attr(m.root, "groups"), attr(m.root, "eps")
        batch, channels, *space = x.shape
        assert isinstance(channels, int), "checked"
        ones = (1,) * len(space)
        wide = _widened(b, x)
        if facts is None:
            rows = b.reshape(wide, (batch, groups, channels // groups, *space))
            normed = b.add(nn.layer_norm, rows, eps=eps, dims=1 + len(space))
            normed = b.reshape(_laid_out(b, normed, _by_group(x, groups)), x.shape)
        else:
            by_group = (batch, groups, facts.channels, 1)
            mean, rstd = (
                b.reshape(b.add(view.broadcast_to, v, shape=by_group), (batch, channels, *ones))
                for v in _statistics(b, wide, facts, eps)
            )
            normed = b.add(el.mul, b.add(el.sub, wide, mean), rstd)
        return _with_affine(b, normed, m, (channels, *ones), m.root.result)


@dataclass(frozen=True, slots=True)
class SplitLayerNorm(Rule[Chunks]):
    """layer_norm(x, w, b) => (x - mean) * rstd * w + b where rows are few and long."""

    target: Target

    def pattern(self) -> Pat:
        return pat(nn.layer_norm, var("x"), maybe_var("w"), maybe_var("b"))

    def check(self, m: Match) -> Chunks | Refused:
        x = m["x"]
        if x.dtype == "f64" or x.strides is not None:
            return Refused()
        at = len(x.shape) - attr(m.root, "dims")
        rows, columns = product(x.shape[:at]), product(x.shape[at:])
        return chunks_of(rows, 1, 1, columns, strided=False, target=self.target)

    def rewrite(self, m: Match, b: Builder, facts: Chunks) -> Value:
        x, dims = m["x"], attr(m.root, "dims")
        at = len(x.shape) - dims
        wide = _widened(b, x)
        statistics = _statistics(b, wide, facts, attr(m.root, "eps"))
        kept = (*x.shape[:at], *(1,) * dims)
        mean, rstd = (b.reshape(v, kept) for v in statistics)
        normed = b.add(el.mul, b.add(el.sub, wide, mean), rstd)
        return _with_affine(b, normed, m, x.shape[at:], m.root.result)


@dataclass(frozen=True, slots=True)
class SplitNorms:
    """Write norms as what row-wise and pointwise kernels compute; a CPU has library calls for them.

    It follows plan-layout: how a row is cut depends on where its elements lie.
    """

    target: Target = TARGETS["cuda:90"]
    name: ClassVar[str] = "split-norms"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.FUSED

    def run(self, graph: Graph, log: Log) -> Graph:
        if self.target.kind != "cuda":
            return graph
        rules: tuple[AnyRule, ...] = (SplitGroupNorm(self.target), SplitLayerNorm(self.target))
        return apply_rules(graph, rules, log)
