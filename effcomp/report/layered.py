"""Drawing a graph in layers (Sugiyama's method): order by barycentre, place by least squares."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

ORDER_SWEEPS = 12
PLACE_SWEEPS = 8
NODE_GAP = 22.0
BEND_WIDTH = 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the drawing; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Layered:
    """Centres of the nodes, and for each edge the points that it passes."""

    centres: tuple[Point, ...]
    routes: Mapping[tuple[int, int], tuple[Point, ...]]


@dataclass(slots=True)
class _Items:
    """Nodes, then one bend for each layer that an edge crosses."""

    widths: list[float]
    layer: list[int]
    above: list[list[int]] = field(default_factory=list[list[int]])
    below: list[list[int]] = field(default_factory=list[list[int]])
    chains: dict[tuple[int, int], list[int]] = field(
        default_factory=dict[tuple[int, int], list[int]]
    )

    def join(self, source: int, target: int) -> None:
        self.below[source].append(target)
        self.above[target].append(source)

    def bend(self, layer: int) -> int:
        self.widths.append(BEND_WIDTH)
        self.layer.append(layer)
        self.above.append([])
        self.below.append([])
        return len(self.widths) - 1


def place(
    widths: Sequence[float],
    heights: Sequence[float],
    layers: Sequence[int],
    edges: Iterable[tuple[int, int]],
    gaps: Sequence[float],
) -> Layered:
    """Place nodes whose layers are known; `gaps[i]` is the space above layer i.

    Every edge leads to a later layer.
    """
    items = _Items(list(widths), list(layers), [[] for _ in widths], [[] for _ in widths])
    for source, target in edges:
        _route(items, source, target)
    rows: list[list[int]] = [[] for _ in gaps]
    for item, layer in enumerate(items.layer):
        rows[layer].append(item)
    _order(items, rows)
    xs = _positions(items, rows)
    tall = [max((heights[i] for i in row if i < len(heights)), default=0.0) for row in rows]
    ys: list[float] = []
    y = 0.0
    for gap, height in zip(gaps, tall, strict=True):
        ys.append(y + gap + height / 2)
        y += gap + height
    centres = tuple(Point(xs[i], ys[layers[i]]) for i in range(len(widths)))
    routes = {
        edge: (
            Point(xs[edge[0]], centres[edge[0]].y + heights[edge[0]] / 2),
            *(Point(xs[bend], ys[items.layer[bend]]) for bend in bends),
            Point(xs[edge[1]], centres[edge[1]].y - heights[edge[1]] / 2),
        )
        for edge, bends in items.chains.items()
    }
    return Layered(centres, routes)


def _route(items: _Items, source: int, target: int) -> None:
    first, last = items.layer[source], items.layer[target]
    assert first < last, f"edge {source} -> {target} leads from layer {first} to {last}"
    bends = [items.bend(layer) for layer in range(first + 1, last)]
    items.chains[source, target] = bends
    chain = [source, *bends, target]
    for above, below in itertools.pairwise(chain):
        items.join(above, below)


def _order(items: _Items, rows: list[list[int]]) -> None:
    """Sort each layer by where its neighbours stand, downwards and upwards in turn."""
    rank = [0.0] * len(items.widths)

    def settle(row: list[int]) -> None:
        for position, item in enumerate(row):
            rank[item] = position / max(1, len(row) - 1) if len(row) > 1 else 0.5

    for row in rows:
        settle(row)
    for sweep in range(ORDER_SWEEPS):
        down = sweep % 2 == 0
        neighbours = items.above if down else items.below
        for row in rows if down else reversed(rows):
            wanted = {
                item: sum(rank[n] for n in neighbours[item]) / len(neighbours[item])
                if neighbours[item]
                else rank[item]
                for item in row
            }
            row.sort(key=wanted.__getitem__)
            settle(row)


def _positions(items: _Items, rows: Sequence[Sequence[int]]) -> list[float]:
    """Pull every item towards its neighbours, keeping each layer's order and the gaps in it."""
    xs = [0.0] * len(items.widths)
    for row in rows:
        for item, x in zip(row, _spread([0.0] * len(row), _widths(items, row)), strict=True):
            xs[item] = x
    for sweep in range(PLACE_SWEEPS):
        down = sweep % 2 == 0
        near, far = (items.above, items.below) if down else (items.below, items.above)
        for row in rows if down else reversed(rows):
            wanted: list[float] = []
            for item in row:
                around = near[item] or far[item]
                wanted.append(sum(xs[n] for n in around) / len(around) if around else xs[item])
            for item, x in zip(row, _spread(wanted, _widths(items, row)), strict=True):
                xs[item] = x
    return xs


def _widths(items: _Items, row: Sequence[int]) -> list[float]:
    return [items.widths[item] for item in row]


def _spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The places nearest to those wanted (least squares) at which nothing overlaps.

    Less the room that items before need, places must not decrease: an isotonic regression, solved
    by pooling neighbours that violate it.
    """
    room = [0.0]
    for left, right in itertools.pairwise(widths):
        room.append(room[-1] + (left + right) / 2 + NODE_GAP)
    pools: list[tuple[float, int]] = []
    for x, before in zip(wanted, room, strict=False):
        total, count = x - before, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, others = pools.pop()
            total, count = total + more, count + others
        pools.append((total, count))
    levels = [total / count for total, count in pools for _ in range(count)]
    return [level + before for level, before in zip(levels, room, strict=False)]
