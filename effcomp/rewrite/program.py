"""The working form of a graph while rules run: linked ops, readers of every value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from effcomp.ir import Graph, Op, Value, is_pure


@dataclass(slots=True, eq=False)
class Node:
    """An op's place in the program. `op` changes when an operand does; results stay."""

    op: Op
    before: "Node | None" = None
    after: "Node | None" = None
    alive: bool = True


class Program:
    """A graph under edit. Each edit costs what it touches, not the size of the program."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._outputs = list(graph.outputs)
        self._producers: dict[Value, Node] = {}
        self._readers: dict[Value, dict[Node, int]] = {}
        self._output_uses: dict[Value, int] = {}
        self._first: Node | None = None
        self._last: Node | None = None
        for op in graph.ops:
            self._insert(op, None)
        for v in graph.outputs:
            self._output_uses[v] = self._output_uses.get(v, 0) + 1

    def producer(self, value: Value) -> Op | None:
        """The op that makes a value; None for a param."""
        node = self._producers.get(value)
        return None if node is None else node.op

    def readers(self, value: Value) -> list[Op]:
        """The ops that read a value, each once."""
        return [n.op for n in self._readers.get(value, ())]

    def uses(self, value: Value) -> int:
        """How often a value is read, as a graph output too."""
        return sum(self._readers.get(value, {}).values()) + self._output_uses.get(value, 0)

    def is_output(self, value: Value) -> bool:
        return self._output_uses.get(value, 0) > 0

    def is_dead(self, node: Node) -> bool:
        """Whether nothing reads an op's results and it has no other effect."""
        return not any(self.uses(r) for r in node.op.results) and is_pure(node.op)

    def nodes(self) -> Iterator[Node]:
        """Ops in program order."""
        node = self._first
        while node is not None:
            yield node
            node = node.after

    def node_of(self, value: Value) -> Node | None:
        """The place of the op that makes a value."""
        return self._producers.get(value)

    def reading_nodes(self, value: Value) -> list[Node]:
        return list(self._readers.get(value, ()))

    def graph(self) -> Graph:
        """The program as it stands now."""
        ops = tuple(n.op for n in self.nodes())
        return replace(self._graph, ops=ops, outputs=tuple(self._outputs))

    def replace(
        self, roots: Sequence[Node], ops: Sequence[Op], values: Sequence[Value]
    ) -> list[Node]:
        """Put `ops` where the first root stands, `values` for all results; drop what is dead then.

        Ops below that place which the new ones read must have been moved: see `move_up`.
        """
        results = [r for root in roots for r in root.op.results]
        place = self._first_of(roots)
        new = [self._insert(op, place) for op in ops]
        for old, value in zip(results, values, strict=True):
            self._redirect(old, value)
        for root in roots:
            if root.alive and not any(self.uses(r) for r in root.op.results):
                self._erase(root)
        for node in reversed(new):
            if self.is_dead(node):
                self._erase(node)
        return [n for n in new if n.alive]

    def move_up(self, roots: Sequence[Node], read: Sequence[Value]) -> str:
        """Move what makes these values above the first root, so that they can be read there.

        Returns why that cannot be, or nothing. With one root everything stands above it already.
        """
        if len(roots) == 1:
            return ""
        index = {node: i for i, node in enumerate(self.nodes())}
        place = self._first_of(roots)
        late: set[Node] = set()
        front = list(read)
        while front:
            node = self._producers.get(front.pop())
            if node is None or node in late or index[node] < index[place]:
                continue
            if node in roots:
                return f"one of the results is computed from that of {node.op.name}"
            if not is_pure(node.op):
                return f"{node.op.name} stands between the results and keeps its place"
            late.add(node)
            front += node.op.operands
        for node in sorted(late, key=index.__getitem__):
            self._detach(node)
            self._attach(node, place)
        return ""

    def _first_of(self, roots: Sequence[Node]) -> Node:
        """The root that stands first in the program."""
        if len(roots) == 1:
            return roots[0]
        return next(node for node in self.nodes() if node in roots)

    def update(self, node: Node, op: Op) -> None:
        """Exchange an op for one with the same operands and results (another body or attribute)."""
        assert op.operands == node.op.operands, op.name
        assert op.results == node.op.results, op.name
        node.op = op

    def _insert(self, op: Op, place: Node | None) -> Node:
        """Insert before `place`, or at the end."""
        node = Node(op)
        self._attach(node, place)
        for r in op.results:
            self._producers[r] = node
        for v in op.operands:
            readers = self._readers.setdefault(v, {})
            readers[node] = readers.get(node, 0) + 1
        return node

    def _redirect(self, old: Value, new: Value) -> None:
        if old is new:
            return
        readers = self._readers.pop(old, {})
        merged = self._readers.setdefault(new, {})
        for node, count in readers.items():
            operands = tuple(new if v is old else v for v in node.op.operands)
            node.op = replace(node.op, operands=operands)
            merged[node] = merged.get(node, 0) + count
        if used := self._output_uses.pop(old, 0):
            self._output_uses[new] = self._output_uses.get(new, 0) + used
            self._outputs = [new if v is old else v for v in self._outputs]

    def _erase(self, root: Node) -> None:
        """Unlink a node, and the pure ops that only it kept alive."""
        doomed = [root]
        while doomed:
            node = doomed.pop()
            if not node.alive:
                continue
            self._unlink(node)
            for v in node.op.operands:
                self._readers[v].pop(node, None)
                maker = self._producers.get(v)
                if maker is not None and self.is_dead(maker):
                    doomed.append(maker)

    def _unlink(self, node: Node) -> None:
        node.alive = False
        self._detach(node)
        for r in node.op.results:
            del self._producers[r]

    def _attach(self, node: Node, place: Node | None) -> None:
        """Link a node in before `place`, or at the end."""
        node.before, node.after = self._last if place is None else place.before, place
        if node.before is None:
            self._first = node
        else:
            node.before.after = node
        if place is None:
            self._last = node
        else:
            place.before = node

    def _detach(self, node: Node) -> None:
        if node.before is None:
            self._first = node.after
        else:
            node.before.after = node.after
        if node.after is None:
            self._last = node.before
        else:
            node.after.before = node.before
