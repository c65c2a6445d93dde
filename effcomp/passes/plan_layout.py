"""plan-layout: convolutions, and what lies between them, with channels last in memory."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from effcomp.ir import Dim, Graph, Level, Op, Value, attr, ops
from effcomp.ir.dims import contiguous_strides, product
from effcomp.passes.channels_last import Spread, channels_last_strides, is_channels_last
from effcomp.passes.prologue import constant_values, hoist
from effcomp.rewrite import Log
from effcomp.target import TARGETS, Target

RULE = "ChannelsLast"
Strides = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class PlanLayout:
    """conv(x, w) => conv(x, w), the operands and the result lying in memory as [B, H, W, C].

    So does what is computed between convolutions, and what is read as [B, H, W, C]. A convolution
    pays from `min_channels` in and out; others follow their neighbours. `float32` takes those too.
    Weights are copied into that layout at every call, as Inductor does, but for the smallest: up to
    `keep_bytes` of copies are made once and stay in memory.
    """

    target: Target = TARGETS["cuda:90"]
    min_channels: int = 16
    keep_bytes: int = 64 << 20
    float32: bool = False
    name: ClassVar[str] = "plan-layout"
    takes: ClassVar[Level | None] = Level.FUSED
    gives: ClassVar[Level | None] = Level.FUSED

    def run(self, graph: Graph, log: Log) -> Graph:
        if self.target.kind != "cuda":
            return graph
        convs = [
            op
            for op in graph.ops
            if op.name == "nn.conv" and log.sees(op) and self._is_eligible(op, log)
        ]
        spread = Spread(graph, convs)
        spread.run(op for op in convs if self._pays(op))
        if not spread.chosen:
            return graph
        writer = _Writer(graph, spread, self._kept(graph, spread.chosen))
        after = writer.run()
        if not writer.changed:
            return graph
        for op in convs:
            if op in spread.chosen:
                log.applied(RULE, op.loc)
        return hoist(after, writer.hoisted) if writer.hoisted else after

    def _is_eligible(self, op: Op, log: Log) -> bool:
        x = op.operands[0]
        if len(x.shape) != 4 or attr(op, "transposed"):
            return False
        if attr(op, "groups") != 1:
            log.refused(RULE, op.loc, "a grouped convolution is faster row-major")
            return False
        if x.dtype not in ("f16", "bf16") and not (self.float32 and x.dtype == "f32"):
            return False
        # With one channel both layouts are one, and torch takes it for the other.
        return all(isinstance(c, int) and c > 1 for c in _channels(op))

    def _pays(self, op: Op) -> bool:
        return all(isinstance(c, int) and c >= self.min_channels for c in _channels(op))

    def _kept(self, graph: Graph, chosen: Collection[Op]) -> frozenset[Value]:
        """Weights that are copied once: the smallest, whose copies cost a launch all the same."""
        constant = constant_values(graph)
        weights = dict.fromkeys(
            op.operands[1] for op in graph.ops if op in chosen and op.operands[1] in constant
        )
        sizes = {w: w.tensor.nbytes for w in weights if not is_channels_last(w)}
        known = [(n, w) for w, n in sizes.items() if isinstance(n, int)]
        kept: set[Value] = set()
        left = self.keep_bytes
        for size, weight in sorted(known, key=lambda pair: pair[0]):
            left -= size
            if left < 0:
                break
            kept.add(weight)
        return frozenset(kept)


def _channels(op: Op) -> tuple[Dim, Dim]:
    return op.operands[0].shape[1], op.result.shape[1]


class _Writer:
    """The graph again, with layouts stated, and copies where a layout changes."""

    def __init__(self, graph: Graph, spread: Spread, kept: Collection[Value]) -> None:
        self._graph, self._spread, self._kept = graph, spread, kept
        self._new: dict[Value, Value] = {}
        self._copies: dict[Value, Value] = {}
        self._ops: list[Op] = []
        self.hoisted: list[Value] = []
        self.changed = False

    def run(self) -> Graph:
        for op in self._graph.ops:
            operands = tuple(self._new.get(v, v) for v in op.operands)
            if op in self._spread.chosen:
                operands = (*map(self._channels_last, op.operands[:2]), *operands[2:])
            results = tuple(map(self._laid_out, op.results))
            self._ops.append(replace(op, operands=operands, results=results))
        outputs, strides = self._outputs()
        return replace(self._graph, ops=tuple(self._ops), outputs=outputs, output_strides=strides)

    def _laid_out(self, value: Value) -> Value:
        if value in self._spread.last and value.strides is None:
            self._new[value] = replace(value, strides=channels_last_strides(value.shape))
            self.changed = True
        return self._new.get(value, value)

    def _channels_last(self, value: Value) -> Value:
        """A convolution's operand as it is, or a copy that lies channels last."""
        if self._spread.lies(value):
            return self._new.get(value, value)
        if value not in self._copies:
            self._copies[value] = self._copied(value)
        return self._copies[value]

    def _copied(self, value: Value) -> Value:
        strides = channels_last_strides(value.shape)
        if value in self._kept:
            result = replace(value, strides=strides, weight=False)
            self.hoisted.append(result)
            self._add(replace(ops.view.copy.build(value), results=(result,)))
            return result
        # Height and width as one dim: the copy's tiles are as long as a whole window.
        batch, channels, *space = value.shape
        flat = ops.view.reshape.build(value, shape=(batch, channels, product(space)))
        moved = _copy(flat.result, channels_last_strides(flat.result.shape))
        shaped = ops.view.reshape.build(moved.result, shape=value.shape)
        result = replace(value, strides=strides, weight=False)
        self._add(flat, moved, replace(shaped, results=(result,)))
        return result

    def _outputs(self) -> tuple[tuple[Value, ...], tuple[Strides | None, ...]]:
        """Outputs in the layouts that are asked for; row-major where nothing is."""
        graph = self._graph
        read = {v for op in graph.ops for v in op.operands}
        made_by_conv = {op.result for op in self._spread.chosen}
        outputs: list[Value] = []
        layouts: list[Strides | None] = []
        for i, v in enumerate(graph.outputs):
            new, layout = self._new.get(v, v), graph.layout_of_output(i)
            if new is not v and layout is None:
                layout = contiguous_strides(v.shape)
            shared = v in read or v in made_by_conv
            if new is not v and layout and shared and not is_channels_last(v, layout):
                self._add(_copy(new, layout))
                new = self._ops[-1].result
            outputs.append(new)
            layouts.append(layout)
        known = any(layout is not None for layout in layouts)
        return tuple(outputs), tuple(layouts) if known else graph.output_strides

    def _add(self, *made: Op) -> None:
        self._ops += made
        self.changed = True


def _copy(value: Value, strides: Strides) -> Op:
    """A group that writes a value in another layout."""
    param = Value(value.type, value.hint)
    inner = ops.view.copy.build(param)
    body = Graph("copy", (param,), (inner,), inner.results)
    return Op(
        "fused.pointwise",
        (value,),
        (Value(value.type, value.hint, strides),),
        MappingProxyType({}),
        body,
    )
