"""decompose: ops that no emitter takes become ops that one does."""

import struct
from dataclasses import dataclass, replace
from typing import ClassVar

import sympy

from effcomp.ir import Dim, Graph, Level, Value, attr
from effcomp.ir.dims import dim as normal
from effcomp.ir.dims import same
from effcomp.ir.ops import elementwise as el
from effcomp.ir.ops import indexing, nn, view
from effcomp.rewrite import (
    AnyRule,
    Builder,
    Log,
    Match,
    Pat,
    Rule,
    apply_rules,
    attr_var,
    pat,
    var,
)
from effcomp.target import TARGETS, Target


@dataclass(frozen=True, slots=True)
class SplitUpsample(Rule[None]):
    """upsample_nearest(x) => x repeated along its spatial dims, or taken at computed indices."""

    def pattern(self) -> Pat:
        return pat(nn.upsample_nearest, var("x"), sizes=attr_var("sizes"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        x = m["x"]
        sizes: tuple[Dim, ...] = attr(m.root, "sizes")
        scales: tuple[float, ...] = attr(m.root, "scales")
        factors = [
            _repeats(n, out, scales[i] if scales else None)
            for i, (n, out) in enumerate(zip(x.shape[2:], sizes, strict=True))
        ]
        for i, factor in enumerate(factors):
            if factor is None:
                index = _nearest(b, x.shape[i + 2], sizes[i], scales[i] if scales else None)
                x = b.add(indexing.take, x, index, dim=i + 2)
        return _repeat(b, x, [1 if f is None else f for f in factors])


@dataclass(frozen=True, slots=True)
class SplitConvBias(Rule[None]):
    """conv(x, w, b) => conv(x, w) + b: what follows takes the sum in; torch adds it in a kernel."""

    def pattern(self) -> Pat:
        return pat(nn.conv, var("x"), var("w"), var("b"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        found, bias = Value(m.root.result.type), m["b"]
        b.ops.append(replace(m.root, operands=m.root.operands[:2], results=(found,)))
        ones = (1,) * (len(found.shape) - 2)
        return b.add(el.add, found, b.reshape(bias, (*bias.shape, *ones)))


def _repeat(b: Builder, x: Value, factors: list[int]) -> Value:
    """Each element of spatial dim i `factors[i]` times."""
    if all(f == 1 for f in factors):
        return x
    apart: list[Dim] = list(x.shape[:2])
    wide: list[Dim] = list(x.shape[:2])
    after: list[Dim] = list(x.shape[:2])
    for size, factor in zip(x.shape[2:], factors, strict=True):
        apart += [size] if factor == 1 else [size, 1]
        wide += [size] if factor == 1 else [size, factor]
        after.append(normal(size * factor))
    spread = b.add(view.broadcast_to, b.reshape(x, tuple(apart)), shape=tuple(wide))
    return b.reshape(spread, tuple(after))


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _repeats(size: Dim, out: Dim, scale: float | None) -> int | None:
    """k where ATen's floor(i * scale), in float32, is i // k for every i; else None."""
    if same(size, out) and scale in (None, 1.0):
        return 1
    if isinstance(size, int) and isinstance(out, int):
        if size == 0 or out % size:
            return None
        factor = out // size
        step = _single(1 / scale) if scale else _single(_single(size) / _single(out))
        found = (min(int(_single(i * step)), size - 1) for i in range(out))
        return factor if all(j == i // factor for i, j in enumerate(found)) else None
    factor = sympy.cancel(sympy.sympify(out) / sympy.sympify(size))
    if not factor.is_Integer or (scale is not None and scale != int(factor)):
        return None
    # 1 / k is exact in float32 for powers of two, and so is i times it.
    k = int(factor)
    return k if k & (k - 1) == 0 else None


def _nearest(b: Builder, size: Dim, out: Dim, scale: float | None) -> Value:
    """min(floor(i * scale), size - 1) for i < out, rounded as ATen does (float32)."""
    positions = b.convert(b.add(view.iota, size=out), "f32")
    if scale:
        step = b.constant(_single(1 / scale), "f32")
    elif isinstance(size, int) and isinstance(out, int):
        step = b.constant(_single(_single(size) / _single(out)), "f32")
    else:
        step = b.add(el.div, _size_of(b, size, "f32"), _size_of(b, out, "f32"))
    index = b.convert(b.add(el.floor, b.add(el.mul, positions, step)), "i64")
    return b.add(el.minimum, index, _size_of(b, normal(size - 1), "i64"))


def _size_of(b: Builder, size: Dim, dtype: str) -> Value:
    if isinstance(size, int):
        return b.constant(size if dtype == "i64" else float(size), dtype)
    return b.add(el.size_as_tensor, value=size, dtype=dtype)


@dataclass(frozen=True, slots=True)
class SplitTriangle(Rule[None]):
    """tril(x, d) => where(column <= row + d, x, 0); triu: >=."""

    def pattern(self) -> Pat:
        return pat(view.triangle, var("x"))

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        x = m["x"]
        rows, columns = x.shape[-2:]
        row = b.reshape(b.add(view.iota, size=rows, start=attr(m.root, "diagonal")), (rows, 1))
        column = b.add(view.iota, size=columns)
        side = b.add(el.ge if attr(m.root, "upper") else el.le, column, row)
        zero = {"bool": False}.get(x.dtype, 0 if x.dtype[0] in "iu" else 0.0)
        return b.add(el.where, side, x, b.constant(zero, x.dtype))


@dataclass(frozen=True, slots=True)
class Decompose:
    """Rewrite what no emitter of the target takes; a CPU has library calls for all of it."""

    target: Target = TARGETS["cuda:90"]
    name: ClassVar[str] = "decompose"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        rules: tuple[AnyRule, ...] = (SplitTriangle(),)
        if self.target.kind == "cuda":
            rules = (*rules, SplitUpsample(), SplitConvBias())
        return apply_rules(graph, rules, log)
