"""The figures of a page as geometry: the roofline plot and the map of a call's memory."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from effcomp.report.schema import GraphReport, GroupReport, Holding, MemoryReport, Roofs

WIDTH, HEIGHT = 1200.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 88.0, 16.0, 14.0, 44.0


def seconds_of(group: GroupReport) -> float:
    """The measured time of a step, or the estimate where nobody measured."""
    return group.estimate if group.measured is None else group.measured


def bound_of(group: GroupReport, roofs: Roofs) -> str:
    """What a step's time goes into by the roofline: "launch", "memory" or "arithmetic"."""
    moved = group.bytes / roofs.bandwidth
    computed = group.flops / (roofs.matrix_rate if group.matrix else roofs.vector_rate)
    if max(moved, computed) < roofs.launch_seconds:
        return "launch"
    return "memory" if moved >= computed else "arithmetic"


@dataclass(frozen=True, slots=True)
class Alike:
    """Steps that do the same: one row of a table, one point of the plot."""

    steps: tuple[int, ...]
    first: GroupReport
    seconds: float  # of all together
    share: float  # of the call
    bound: str


def alike(graph: GraphReport) -> tuple[Alike, ...]:
    """The steps of a graph by what they do, the costliest first."""
    found: dict[tuple[object, ...], list[int]] = {}
    for i, g in enumerate(graph.groups):
        found.setdefault((g.kind, g.runs, g.label, g.bytes, g.flops), []).append(i)
    whole = sum(map(seconds_of, graph.groups)) or 1.0
    rows: list[Alike] = []
    for steps in found.values():
        first = graph.groups[steps[0]]
        seconds = sum(seconds_of(graph.groups[i]) for i in steps)
        bound = bound_of(first, graph.roofs)
        rows.append(Alike(tuple(steps), first, seconds, seconds / whole, bound))
    return tuple(sorted(rows, key=lambda row: -row.seconds))


# The roofline.


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis, at `at` pixels."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Dot:
    """Steps that are alike, by FLOPs a byte and FLOP/s."""

    x: float
    y: float
    radius: float
    row: Alike
    intensity: float
    rate: float


@dataclass(frozen=True, slots=True)
class Roof:
    """A ceiling of the target, as an SVG path."""

    label: str
    path: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """A log-log plot; `still` counts the steps that have no place in it: they compute nothing."""

    dots: tuple[Dot, ...]
    roofs: tuple[Roof, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    still: int


@dataclass(frozen=True, slots=True)
class _Scale:
    """Decades along one axis."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float) -> "_Scale":
        logs = [math.log10(value) for value in values]
        return cls(math.floor(min(logs)), math.ceil(max(logs) + 1e-9), start, end)

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, unit: str) -> tuple[Tick, ...]:
        decades = range(self.low, self.high + 1)
        return tuple(Tick(self(10.0**d), show_decade(d, unit)) for d in decades)


def roofline(rows: Sequence[Alike], roofs: Roofs) -> Roofline | None:
    """The plot of steps under the target's roofs; None where no step computes anything."""
    shown = [row for row in rows if row.first.flops and row.first.bytes and row.seconds]
    if not shown:
        return None
    points = [
        (row.first.flops / row.first.bytes, row.first.flops * len(row.steps) / row.seconds)
        for row in shown
    ]
    ridges = [rate / roofs.bandwidth for rate in (roofs.vector_rate, roofs.matrix_rate)]
    xs = _Scale.of([x for x, _ in points] + [ridges[0] / 3, ridges[1] * 3], LEFT, WIDTH - RIGHT)
    ys = _Scale.of([y for _, y in points] + [roofs.matrix_rate], HEIGHT - BOTTOM, TOP)
    dots = tuple(
        Dot(xs(x), ys(y), 3.5 + 15 * math.sqrt(row.share), row, x, y)
        for row, (x, y) in zip(shown, points, strict=True)
    )
    return Roofline(
        dots=dots,
        roofs=_roofs(roofs, xs, ys),
        x_ticks=xs.ticks(""),
        y_ticks=ys.ticks("FLOP/s"),
        still=sum(len(row.steps) for row in rows) - sum(len(row.steps) for row in shown),
    )


def _roofs(roofs: Roofs, xs: _Scale, ys: _Scale) -> tuple[Roof, ...]:
    """The slope of the bandwidth with a flat end for each rate; labels stand where no dot can."""
    floor = 10.0**ys.low
    start = max(10.0**xs.low, floor / roofs.bandwidth)
    end = 10.0**xs.high
    found: list[Roof] = []
    for name, rate in (("vector", roofs.vector_rate), ("matrix", roofs.matrix_rate)):
        ridge = rate / roofs.bandwidth
        path = f"M{xs(ridge):.1f} {ys(rate):.1f}H{xs(end):.1f}"
        found.append(Roof(f"{name} {show_rate(rate)}", path, xs(ridge) - 8, ys(rate) + 4))
    ridge = max(roofs.vector_rate, roofs.matrix_rate) / roofs.bandwidth
    slope = f"M{xs(start):.1f} {ys(start * roofs.bandwidth):.1f}"
    slope += f"L{xs(ridge):.1f} {ys(ridge * roofs.bandwidth):.1f}"
    middle = math.sqrt(start * roofs.vector_rate / roofs.bandwidth)
    label = f"memory {show_rate(roofs.bandwidth, 'B/s')}"
    at = xs(middle) - 8, ys(middle * roofs.bandwidth) - 4
    return (*found, Roof(label, slope, *at))


def show_decade(exponent: int, unit: str) -> str:
    """`10^exponent` with its prefix: 1, 10 or 100 of k, M, G, T, P."""
    prefixes = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}
    if -4 < exponent < 0:
        return f"{10.0**exponent:.{-exponent}f} {unit}".rstrip()
    base = exponent - exponent % 3
    if base in prefixes:
        return f"{10 ** (exponent - base)} {prefixes[base]}{unit}".rstrip()
    return f"1e{exponent} {unit}".rstrip()


def show_rate(rate: float, unit: str = "FLOP/s") -> str:
    """A rate with a prefix, to three digits."""
    exponent = max(0, int(math.log10(max(rate, 1.0))) // 3 * 3)
    prefix = show_decade(exponent, unit).partition(" ")[2]
    return f"{rate / 10**exponent:.3g} {prefix}"


# Memory.


@dataclass(frozen=True, slots=True)
class Block:
    """A buffer in the map: steps to the right, addresses upwards."""

    x: float
    y: float
    width: float
    height: float
    held: Holding


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Buffers by step and address; `line` is the path of what is alive, `arena` its ceiling."""

    blocks: tuple[Block, ...]
    line: str
    arena: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def memory_map(memory: MemoryReport, steps: int) -> MemoryMap | None:
    """The map of what a call holds; None where it allocates nothing."""
    held = [h for h in memory.holdings if h.bytes]
    if not held or not steps:
        return None
    offsets = _offsets(held, memory.arena_bytes)
    top = max(offsets[i] + h.bytes for i, h in enumerate(held))
    across = (WIDTH - LEFT - RIGHT) / (steps + 1)
    up = (HEIGHT - TOP - BOTTOM) / top
    floor = HEIGHT - BOTTOM
    blocks = tuple(
        Block(
            x=LEFT + h.first * across,
            y=floor - (offsets[i] + h.bytes) * up,
            width=(h.last + 1 - h.first) * across,
            height=h.bytes * up,
            held=h,
        )
        for i, h in enumerate(held)
    )
    alive = [sum(h.bytes for h in held if h.first <= s <= h.last) for s in range(steps + 1)]
    corners = [
        f"{LEFT + s * across:.1f} {floor - n * up:.1f}H{LEFT + (s + 1) * across:.1f}"
        for s, n in enumerate(alive)
    ]
    return MemoryMap(
        blocks=blocks,
        line="M" + "L".join(corners),
        arena=floor - memory.arena_bytes * up,
        x_ticks=tuple(
            Tick(LEFT + (s + 0.5) * across, str(s)) for s in range(0, steps + 1, _round(steps / 10))
        ),
        y_ticks=tuple(
            Tick(floor - n * up, _show_size(n, top)) for n in range(0, top + 1, _binary(top / 5))
        ),
    )


def _offsets(held: Sequence[Holding], arena: int) -> Mapping[int, int]:
    """Where each lies; what has no address is stacked above the arena, first fit."""
    found: dict[int, int] = {}
    above: list[int] = []
    for i, one in enumerate(held):
        if one.offset is not None:
            found[i] = one.offset
            continue
        rivals = sorted(
            (found[j], held[j].bytes)
            for j in above
            if held[j].first <= one.last and one.first <= held[j].last
        )
        at = arena
        for start, size in rivals:
            if start - at >= one.bytes:
                break
            at = max(at, start + size)
        found[i] = at
        above.append(i)
    return found


def _round(value: float) -> int:
    """The next 1, 2 or 5 times a power of ten."""
    steps = (m * 10**e for e in itertools.count() for m in (1, 2, 5))
    return next(step for step in steps if step >= value)


def _binary(value: float) -> int:
    """The next power of two."""
    return 1 << max(0, math.ceil(math.log2(max(1.0, value))))


def _show_size(count: int, top: int) -> str:
    units = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
    size, unit = next((size, unit) for size, unit in units if top >= size)
    return f"{count / size:.3g} {unit}"
