"""The graph of groups: which may become one without making a cycle."""

from collections.abc import Collection, Iterable
from typing import Any

import networkx as nx


class GroupGraph:
    """A directed acyclic graph whose nodes merge; it always knows one topological order.

    The order is kept as Pearce and Kelly do (2006): merging two nodes looks only at what lies
    between them in the order, refuses if a path leads through a third node, and moves the nodes
    between to the side they belong to. So no merge can make a cycle, and the order at the end is
    the new program.
    """

    def __init__(self, nodes: Iterable[int], edges: Iterable[tuple[int, int]]) -> None:
        """Nodes come in topological order."""
        self._graph: Any = nx.DiGraph()
        self._graph.add_nodes_from(nodes)
        self._graph.add_edges_from(edges)
        self._rank: dict[int, int] = {n: i for i, n in enumerate(self._graph)}

    def before(self, node: int) -> list[int]:
        """Nodes with an edge to `node`, the latest first."""
        return sorted(self._graph.pred[node], key=self._rank.__getitem__, reverse=True)

    def after(self, node: int) -> list[int]:
        """Nodes that `node` has an edge to, the earliest first."""
        return sorted(self._graph.succ[node], key=self._rank.__getitem__)

    def are_neighbours(self, a: int, b: int) -> bool:
        return self._graph.has_edge(a, b) or self._graph.has_edge(b, a)

    def order(self) -> list[int]:
        """Every node, topologically."""
        return sorted(self._rank, key=self._rank.__getitem__)

    def rank(self, node: int) -> int:
        """A node's place in the order; merging moves it."""
        return self._rank[node]

    def distance(self, a: int, b: int) -> int:
        """How far two nodes stand apart in the order."""
        return abs(self._rank[a] - self._rank[b])

    def may_merge(self, nodes: Collection[int]) -> bool:
        """Whether merging them makes no cycle: no path leaves them and comes back."""
        highest = max(self._rank[n] for n in nodes)
        found: set[int] = set()
        stack = [m for n in nodes for m in self._graph.succ[n] if m not in nodes]
        while stack:
            node = stack.pop()
            if node in found or self._rank[node] > highest:
                continue
            found.add(node)
            for after in self._graph.succ[node]:
                if after in nodes:
                    return False
                stack.append(after)
        return True

    def _below(self, low: int, high: int) -> set[int] | None:
        return self._between(low, high, self._graph.succ, self._rank[low], self._rank[high])

    def merge(self, a: int, b: int) -> bool:
        """Make `b` part of `a`; False, and nothing changed, where that would make a cycle."""
        low, high = (a, b) if self._rank[a] < self._rank[b] else (b, a)
        below = self._below(low, high)
        if below is None:
            return False
        above = self._between(high, low, self._graph.pred, self._rank[low], self._rank[high])
        assert above is not None, "a path seen from one end only"
        moved = [*sorted(above, key=self._rank.__getitem__), low, high]
        moved += sorted(below, key=self._rank.__getitem__)
        places = sorted(self._rank[n] for n in moved)
        self._rank.update(zip(moved, places, strict=True))
        self._contract(a, b)
        return True

    def _between(
        self, start: int, end: int, step: Any, lowest: int, highest: int
    ) -> set[int] | None:
        """Nodes reached from `start` inside the ranks; None if `end` is, past another node."""
        found: set[int] = set()
        stack = [n for n in step[start] if n != end]
        while stack:
            node = stack.pop()
            if node == end:
                return None
            if node not in found and lowest < self._rank[node] < highest:
                found.add(node)
                stack.extend(step[node])
        return found

    def _contract(self, a: int, b: int) -> None:
        graph = self._graph
        graph.add_edges_from((n, a) for n in list(graph.pred[b]) if n != a)
        graph.add_edges_from((a, n) for n in list(graph.succ[b]) if n != a)
        graph.remove_node(b)
        del self._rank[b]
