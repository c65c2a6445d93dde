"""The fused graph as a drawing: a node for each op that runs, repeated blocks drawn once."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from effcomp.report.folding import Repeat, find_repeats
from effcomp.report.layered import Point, place
from effcomp.report.schema import GraphReport, GroupReport, OpReport, ProgramReport

HEIGHT = 48.0
TITLE_CHARACTER, DETAIL_CHARACTER = 8.0, 6.6  # widths
LAYER_GAP = 30.0
HEADER_GAP = 64.0
PADDING = 18.0
LONGEST_ROUTE = 14  # layers; what leads further is drawn as two stubs
LONGEST_TITLE = 34
_MOVES = frozenset(
    f"tensor.{name}"
    for name in ("broadcast", "constant", "convert", "expand", "permute", "reshape", "slice")
)


@dataclass(frozen=True, slots=True)
class Node:
    """What one op of the program runs as. `repeats` are the steps of the blocks that are alike."""

    title: str
    detail: str
    kind: str  # "kernel", "region", "library", "input" or "output"
    op: int
    steps: tuple[int, ...]
    repeats: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """A block of the model; `count` blocks are alike and drawn as this one."""

    title: str
    count: int
    box: Box


@dataclass(frozen=True, slots=True)
class Edge:
    """Data from one node to another, as an SVG path."""

    source: int
    target: int
    path: str
    stub: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything has its place; `width` and `height` enclose it."""

    nodes: tuple[Node, ...]
    boxes: tuple[Box, ...]
    clusters: tuple[Cluster, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Segment:
    title: str
    count: int
    nodes: tuple[int, ...]


def draw(graph: GraphReport) -> Drawing:
    """Lay out a graph. Empty where the report holds no program."""
    sketch = _fold(graph, _Flow.of(graph))
    links = _with_outputs(sketch)
    nodes, segments = tuple(sketch.nodes), sketch.segments
    if not nodes:
        return Drawing((), (), (), (), 0.0, 0.0)
    layers, gaps = _layers(segments, links, len(nodes))
    short = [(s, t) for s, t in links if layers[t] - layers[s] <= LONGEST_ROUTE]
    widths = [_width(node) for node in nodes]
    found = place(widths, [HEIGHT] * len(nodes), layers, short, gaps)
    left = min(p.x - w / 2 for p, w in zip(found.centres, widths, strict=True))
    bends = [point.x for route in found.routes.values() for point in route]
    left = min([left, *bends]) - 2 * PADDING
    boxes = tuple(
        Box(p.x - w / 2 - left, p.y - HEIGHT / 2, w, HEIGHT)
        for p, w in zip(found.centres, widths, strict=True)
    )
    clusters = tuple(_cluster(s, boxes) for s in segments if s.title)
    edges = tuple(_edge(link, boxes, found.routes, left) for link in sorted(links))
    width = max([b.x + b.width for b in boxes] + [x - left for x in bends]) + 2 * PADDING
    height = max(b.y + b.height for b in boxes) + PADDING
    return Drawing(nodes, boxes, clusters, edges, width, height)


# From the program to nodes.


@dataclass(frozen=True, slots=True)
class _Flow:
    """Which ops run (by their steps), and which of them, or which inputs (-1 - i), each reads."""

    program: ProgramReport
    steps: Mapping[int, tuple[int, ...]]
    reads: Mapping[int, tuple[int, ...]]
    returns: tuple[int, ...]
    last_steps: tuple[int, ...]

    @classmethod
    def of(cls, graph: GraphReport) -> "_Flow":
        program = graph.program
        steps: dict[int, list[int]] = {}
        for index, group in enumerate(graph.groups):
            steps.setdefault(group.op, []).append(index)
        last = tuple(steps.pop(-1, ()))
        made: dict[str, tuple[int, ...]] = {
            param.name: () if param.weight else (-1 - i,) for i, param in enumerate(program.params)
        }
        reads: dict[int, tuple[int, ...]] = {}
        for position, op in enumerate(program.ops):
            sources = tuple(dict.fromkeys(s for name in op.reads for s in made[name]))
            if position in steps:
                reads[position] = sources
                sources = (position,)
            made.update((value.name, sources) for value in op.results)
        returns = tuple(dict.fromkeys(s for name in program.outputs for s in made[name]))
        found = {op: tuple(of) for op, of in steps.items() if op < len(program.ops)}
        return cls(program, found, reads, returns, last)


@dataclass(slots=True)
class _Sketch:
    """The drawing before anything has its place; `node_of` knows ops, and inputs as -1 - i."""

    graph: GraphReport
    flow: _Flow
    nodes: list[Node] = field(default_factory=list[Node])
    segments: list[_Segment] = field(default_factory=list[_Segment])
    node_of: dict[int, int] = field(default_factory=dict[int, int])
    again: set[int] = field(default_factory=set[int])  # ops drawn as those of another block

    def add(self, node: Node, op: int) -> int:
        self.node_of[op] = len(self.nodes)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def add_run(self, ops: Sequence[int]) -> None:
        """Ops in order, in a stretch for each block."""
        ids = [self.add(_node(self.graph, self.flow, op, ()), op) for op in ops]
        self.segments += _blocks(ids, [_block(self.flow.program.ops[op].scope) for op in ops])

    def add_repeat(self, ops: Sequence[int], period: int) -> None:
        """The first of several equal stretches; the ops of the others are drawn as its."""
        ids: list[int] = []
        for i, op in enumerate(ops[:period]):
            alike = ops[i + period :: period]
            ids.append(self.add(_node(self.graph, self.flow, op, alike), op))
            self.node_of.update(dict.fromkeys(alike, ids[-1]))
            self.again.update(alike)
        ends = (ops[:period], ops[-period:])
        first, last = (_main_block([self.flow.program.ops[op].scope for op in e]) for e in ends)
        self.segments.append(_Segment(_range(first, last), len(ops) // period, tuple(ids)))

    def links(self) -> set[tuple[int, int]]:
        """Links that lead forwards: what one block hands to the next one alike leads back.

        Of inputs, a block that is drawn as another has its own, and shows those of the other.
        """
        found = {
            (self.node_of[source], self.node_of[op])
            for op, sources in self.flow.reads.items()
            for source in sources
            if source in self.node_of and not (source < 0 and op in self.again)
        }
        return {(source, target) for source, target in found if source < target}

    def settle_inputs(self) -> None:
        """Put each input into the stretch that reads it first, or above the first of all."""
        home = {node: i for i, segment in enumerate(self.segments) for node in segment.nodes}
        held: dict[int, list[int]] = {}
        readers: dict[int, int] = {}
        for source, target in sorted(self.links(), reverse=True):
            readers[source] = target
        for input_, node in self.node_of.items():
            if input_ < 0:
                held.setdefault(home.get(readers.get(node, -1), 0), []).append(node)
        for i in held.keys() - {0}:
            one = self.segments[i]
            self.segments[i] = replace(one, nodes=(*held[i], *one.nodes))
        if 0 in held:
            self.segments.insert(0, _Segment("", 1, tuple(held[0])))


def _fold(graph: GraphReport, flow: _Flow) -> _Sketch:
    """Nodes for inputs, ops and outputs, in the stretches that they stand in."""
    program, ops = flow.program, sorted(flow.steps)
    blocks = [_block(program.ops[op].scope) for op in ops]
    starts = [i == 0 or blocks[i] != blocks[i - 1] for i in range(len(ops))]
    repeats = find_repeats([_signature(graph, flow.steps[op]) for op in ops], starts)
    again = {ops[i] for one in repeats for i in range(one.start + one.period, one.end)}
    read = {s for op, sources in flow.reads.items() if op not in again for s in sources}
    sketch = _Sketch(graph, flow)
    for source in sorted(read | set(flow.returns), reverse=True):
        if source < 0:
            sketch.add(_input(program, source), source)
    for repeat, stretch in _stretches(len(ops), repeats):
        chosen = [ops[i] for i in stretch]
        if repeat:
            sketch.add_repeat(chosen, repeat.period)
        else:
            sketch.add_run(chosen)
    sketch.settle_inputs()
    return sketch


def _with_outputs(sketch: _Sketch) -> set[tuple[int, int]]:
    """Add a node for what is returned. Returns all links."""
    links, flow, program = sketch.links(), sketch.flow, sketch.flow.program
    if not flow.returns and not flow.last_steps:
        return links
    count, last = len(program.outputs), len(sketch.nodes)
    title = "output" if count == 1 else f"{count} outputs"
    kind = _type(program, program.outputs)
    sketch.nodes.append(Node(title, kind, "output", -1, flow.last_steps))
    sketch.segments.append(_Segment("", 1, (last,)))
    return links | {(sketch.node_of[source], last) for source in flow.returns}


def _stretches(
    count: int, repeats: Sequence[Repeat]
) -> Iterator[tuple[Repeat | None, Sequence[int]]]:
    """The repeats and what lies between them, in order."""
    at = 0
    for repeat in repeats:
        if at < repeat.start:
            yield None, range(at, repeat.start)
        yield repeat, range(repeat.start, repeat.end)
        at = repeat.end
    if at < count:
        yield None, range(at, count)


def _blocks(ids: Sequence[int], blocks: Sequence[str]) -> list[_Segment]:
    """Stretches of one block each; what belongs to no block joins the block before it."""
    found: list[tuple[str, list[int]]] = []
    for id, block in zip(ids, blocks, strict=True):
        if found and block in ("", found[-1][0]):
            found[-1][1].append(id)
        else:
            found.append((block, [id]))
    return [_Segment(block, 1, tuple(group)) for block, group in found]


def _signature(graph: GraphReport, steps: Sequence[int]) -> tuple[object, ...]:
    groups = (graph.groups[step] for step in steps)
    return tuple((g.kind, g.runs, g.label, g.bytes, g.flops, g.loc) for g in groups)


def _block(scope: str) -> str:
    """`model.layers.3.mlp` => `model.layers.3`; nothing where no part is a number."""
    found = re.match(r"(?:.*?\.)??[^.]+\.\d+(?=\.|$)", scope)
    return found.group() if found else ""


def _main_block(scopes: Sequence[str]) -> str:
    """The block that most of these modules are in."""
    named = [block for scope in scopes if (block := _block(scope))]
    return max(named, key=named.count, default="repeated")


def _range(first: str, last: str) -> str:
    """`layers.1`, `layers.17` => `layers.1 - 17`."""
    stem, _, number = last.rpartition(".")
    same = first != last and first.rpartition(".")[0] == stem
    return f"{first} \N{EN DASH} {number}" if same else first


# Nodes and what they say.


def _node(graph: GraphReport, flow: _Flow, op: int, alike: Sequence[int]) -> Node:
    steps, shown = flow.steps[op], flow.program.ops[op]
    main = max((graph.groups[step] for step in steps), key=lambda g: g.estimate)
    return Node(
        title=short_title(main),
        detail=shown.results[0].type if shown.results else "",
        kind=main.kind,
        op=op,
        steps=steps,
        repeats=tuple(flow.steps[other] for other in alike),
    )


def _input(program: ProgramReport, source: int) -> Node:
    param = program.params[-1 - source]
    return Node(_clip(param.name), param.type, "input", -1, ())


def short_title(group: GroupReport) -> str:
    """What a step computes: its ops without views and constants, each run of equal ones once."""
    names = [name for name in group.ops if name not in _MOVES] or list(group.ops)
    short = [name.rpartition(".")[2] for name in names] or [group.label]
    distinct = [name for i, name in enumerate(short) if i == 0 or name != short[i - 1]]
    return _clip(" \N{MIDDLE DOT} ".join(distinct))


def _clip(text: str) -> str:
    if len(text) <= LONGEST_TITLE:
        return text
    return text[: LONGEST_TITLE - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _type(program: ProgramReport, names: Sequence[str]) -> str:
    if len(names) != 1:
        return ""
    values: list[OpReport] = list(program.ops)
    found = (value.type for op in values for value in op.results if value.name == names[0])
    return next(found, "")


def _width(node: Node) -> float:
    text = max(len(node.title) * TITLE_CHARACTER, len(node.detail) * DETAIL_CHARACTER)
    return max(96.0, text + 30)


# Layers, and what is drawn around nodes.


def _layers(
    segments: Sequence[_Segment], links: set[tuple[int, int]], count: int
) -> tuple[list[int], list[float]]:
    """The layer of each node, and the space above each layer: stretches stand one below another."""
    before: dict[int, list[int]] = {}
    for source, target in links:
        before.setdefault(target, []).append(source)
    layers = [0] * count
    gaps: list[float] = []
    for segment in segments:
        base, inside = len(gaps), set(segment.nodes)
        for node in segment.nodes:
            above = [layers[s] + 1 for s in before.get(node, ()) if s in inside]
            layers[node] = max(above, default=base)
        depth = max(layers[node] for node in segment.nodes) - base + 1
        gaps += [HEADER_GAP if gaps or segment.title else PADDING, *[LAYER_GAP] * (depth - 1)]
    return layers, gaps


def _cluster(segment: _Segment, boxes: Sequence[Box]) -> Cluster:
    inner = [boxes[node] for node in segment.nodes]
    x, y = min(b.x for b in inner) - PADDING, min(b.y for b in inner) - PADDING - 12
    right, bottom = max(b.x + b.width for b in inner), max(b.y + b.height for b in inner)
    least = len(segment.title) * TITLE_CHARACTER + 90
    width = max(right + PADDING - x, least)
    return Cluster(segment.title, segment.count, Box(x, y, width, bottom + PADDING - y))


def _edge(
    link: tuple[int, int],
    boxes: Sequence[Box],
    routes: Mapping[tuple[int, int], Sequence[Point]],
    left: float,
) -> Edge:
    source, target = boxes[link[0]], boxes[link[1]]
    if link in routes:
        points = [Point(p.x - left, p.y) for p in routes[link]]
        return Edge(*link, _curve(points), stub=False)
    start = Point(source.x + source.width / 2, source.y + source.height)
    end = Point(target.x + target.width / 2, target.y)
    path = f"M{start.x:.0f} {start.y:.0f}v12M{end.x:.0f} {end.y - 12:.0f}v12"
    return Edge(*link, path, stub=True)


def _curve(points: Sequence[Point]) -> str:
    """A path that leaves and enters every point vertically."""
    path = f"M{points[0].x:.0f} {points[0].y:.0f}"
    for a, b in itertools.pairwise(points):
        middle = (a.y + b.y) / 2
        path += f"C{a.x:.0f} {middle:.0f} {b.x:.0f} {middle:.0f} {b.x:.0f} {b.y:.0f}"
    return path
