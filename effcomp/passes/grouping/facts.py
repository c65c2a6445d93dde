"""What a graph says about grouping, computed once a pass: who reads what, what order holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from effcomp.ir import Graph, Op, Value, is_pure
from effcomp.ir.cost import FUNCTION_FLOPS
from effcomp.passes.grouping.layouts import Layouts
from effcomp.passes.grouping.sizes import nbytes, typical_numel
from effcomp.passes.grouping.vocabulary import (
    GENERATORS,
    PRODUCTS,
    VIEWS,
    is_elementwise,
    is_library_only,
    is_pointwise,
    is_row_reduction,
)

# A chain that several groups read is made again in each, if it is as cheap as that.
CHEAP_FLOPS = 8
SMALL_FLOPS = 64
SMALL_NUMEL = 1024
# What a copied value may read beside tensors of its own size, as a part of that.
MOST_BESIDE = 1 / 16
MOST_SWEEPS = 4
LONGEST_CHAIN = 48
_IN_PLACE = frozenset({"state.index_put", "state.slice_put"})
_NO_COMPUTE = frozenset({"tensor.convert"})


@dataclass(frozen=True, slots=True)
class Region:
    """Ops that would be one group, copies included, as positions in program order.

    `params` are values from outside in order of use, `outputs` values that others read.
    """

    members: frozenset[int]
    ops: tuple[int, ...]
    params: tuple[Value, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class _Chain:
    """The copied ops that make one element of a value."""

    flops: int
    length: int


class Facts:
    """Readers, copies and order of one graph.

    A *copied* op never stands in a group of its own: every group that reads it holds a copy. Views
    and generators are copied, and so are cheap values that only groups read. The *bases* of a value
    are the values that a copied value is made from; of any other value, itself.
    """

    def __init__(self, graph: Graph, sink_views: bool = False) -> None:
        """With `sink_views`, a view that memory cannot show is no copied op: a group writes it."""
        self.graph = graph
        self.ops = graph.ops
        self.producer: dict[Value, int] = {
            r: i for i, op in enumerate(self.ops) for r in op.results
        }
        self.pointwise = [is_pointwise(op) for op in self.ops]
        self.reduction = [is_row_reduction(op) for op in self.ops]
        self.groupable = [a or b for a, b in zip(self.pointwise, self.reduction, strict=True)]
        self._outputs = frozenset(graph.outputs)
        self._readers: dict[Value, list[int]] = {}
        for i, op in enumerate(self.ops):
            for v in op.operands:
                self._readers.setdefault(v, []).append(i)
        self._written = self._writes()
        self._chains: dict[Value, _Chain] = {}
        self._bases: dict[Value, tuple[Value, ...]] = {}
        self._layouts = Layouts()
        self.copied: set[int] = set()
        self._find_copied(sink_views)
        self._final: dict[Value, frozenset[int]] = {}
        for op in reversed(self.ops):
            self._final.update((r, self._find_final(r)) for r in op.results)

    def bases(self, value: Value) -> tuple[Value, ...]:
        """What `value` is made from once copied ops are copied."""
        return self._bases.get(value, (value,))

    def final_readers(self, value: Value) -> frozenset[int]:
        """Positions of the ops that read a value, through copied ops too; -1 for an output."""
        if value not in self._final:
            self._final[value] = self._find_final(value)
        return self._final[value]

    def _find_final(self, value: Value) -> frozenset[int]:
        reads = {-1} if value in self._outputs else set[int]()
        for at in self._readers.get(value, ()):
            if at in self.copied:
                reads.update(r for v in self.ops[at].results for r in self._final[v])
            else:
                reads.add(at)
        return frozenset(reads)

    def nodes(self) -> Iterator[int]:
        return (i for i in range(len(self.ops)) if i not in self.copied)

    def edges(self) -> Iterator[tuple[int, int]]:
        """Data flow between nodes, effects in program order, reads on their side of writes."""
        readers: dict[Value, list[int]] = {}
        last_effect = -1
        for at in self.nodes():
            op = self.ops[at]
            for base in dict.fromkeys(b for v in op.operands for b in self.bases(v)):
                if base in self.producer:
                    yield self.producer[base], at
                if (root := self._root(base)) in self._written:
                    readers.setdefault(root, []).append(at)
            if not is_pure(op):
                if last_effect >= 0:
                    yield last_effect, at
                last_effect = at
        for root, places in readers.items():
            for write in self._written[root]:
                yield from ((r, write) if r < write else (write, r) for r in places if r != write)

    def region(self, members: frozenset[int]) -> Region:
        """The group that these ops would be, every copied op just before its first reader."""
        ops: dict[int, None] = {}
        params: dict[Value, None] = {}
        outputs: list[Value] = []

        def place(at: int) -> None:
            keeps = self.ops[at].name in PRODUCTS  # a product reads tensors, not index maps
            for v in self.ops[at].operands:
                made = self.producer.get(v)
                outside = made is None or keeps or made not in self.copied
                if made is None or (outside and made not in members):
                    params[v] = None
                elif made not in members and made not in ops:
                    place(made)
            ops[at] = None

        for at in sorted(members):
            if at not in ops:
                place(at)
            outputs += [r for r in self.ops[at].results if not self.final_readers(r) <= members]
        return Region(members, tuple(ops), tuple(params), tuple(outputs))

    def _root(self, value: Value) -> Value:
        """The tensor whose storage a value may share."""
        while (at := self.producer.get(value)) is not None:
            op = self.ops[at]
            if op.name not in VIEWS and op.name not in _IN_PLACE:
                return value
            value = op.operands[0]
        return value

    def _writes(self) -> dict[Value, list[int]]:
        """Tensors written in place, and where."""
        written: dict[Value, list[int]] = {}
        for at, op in enumerate(self.ops):
            if is_pure(op):
                continue
            # Which operand an unmodelled call writes is not known: any may be.
            targets = op.operands[:1] if op.name.startswith("state.") else op.operands
            for v in targets:
                written.setdefault(self._root(v), []).append(at)
        return written

    def _find_copied(self, sink_views: bool) -> None:
        """Again while more is found: whose only reader is copied has several in the end."""
        for _ in range(MOST_SWEEPS):
            before = frozenset(self.copied)
            self.copied, self._layouts = set(), Layouts()
            self._chains, self._bases = {}, {}
            for at in range(len(self.ops)):
                self._consider_copying(at, sink_views, before)
            if frozenset(self.copied) == before:
                break

    def _consider_copying(self, at: int, sink_views: bool, before: frozenset[int]) -> None:
        op = self.ops[at]
        if is_library_only(op) or len(op.results) != 1:
            return
        if any(self._root(b) in self._written for v in op.operands for b in self.bases(v)):
            return  # a copy could read after the write
        if op.name in VIEWS:
            copied = self._layouts.follow(op) or not sink_views or not self._is_sunk(op)
        else:
            copied = op.name in GENERATORS or self._is_cheap(op, before)
        chain = self._chain(op)
        if copied and chain.length <= LONGEST_CHAIN:
            self.copied.add(at)
            self._chains[op.result] = chain
            reads = (b for v in op.operands for b in self.bases(v))
            self._bases[op.result] = tuple(dict.fromkeys(reads))

    def _chain(self, op: Op) -> "_Chain":
        free = op.name in _NO_COMPUTE or not is_elementwise(op) or not op.operands
        before = [self._chains[v] for v in op.operands if v in self._chains]
        flops = 0 if free else FUNCTION_FLOPS.get(op.name, 1)
        length = max((c.length for c in before), default=0) + 1
        return _Chain(flops + sum(c.flops for c in before), length)

    def _is_sunk(self, op: Op) -> bool:
        """Whether a group makes the operand of a view that has to be written out anyway."""
        made = [self.producer.get(b) for b in self.bases(op.operands[0])]
        return not self._only_groups_read(op.result) and any(
            i is not None and is_pointwise(self.ops[i]) for i in made
        )

    def _is_cheap(self, op: Op, copied: frozenset[int]) -> bool:
        """Whether several groups read the value, and each had better make its own."""
        if not is_elementwise(op) or not self._is_shared(op.result, copied):
            return False
        if not self._only_groups_read(op.result):
            return False
        small = typical_numel(op.result.shape) <= SMALL_NUMEL
        bases = {b for v in op.operands for b in self.bases(v)}
        cheap = self._chain(op).flops <= (SMALL_FLOPS if small else CHEAP_FLOPS)
        # A vector beside the bases costs less than writing and reading the result.
        return cheap and sum(map(nbytes, bases)) <= nbytes(op.result) * (1 + MOST_BESIDE)

    def _is_shared(self, value: Value, copied: frozenset[int]) -> bool:
        """Whether more than one op reads a value, past ops that are copied."""
        readers = set(self._readers.get(value, ()))
        while len(readers) == 1 and (only := next(iter(readers))) in copied:
            readers = set(self._readers.get(self.ops[only].result, ()))
        return len(readers) > 1

    def _only_groups_read(self, value: Value, depth: int = 8) -> bool:
        """Whether every reader, past views, is an op that will stand in a group."""
        if value in self._outputs or depth == 0:
            return False
        for at in set(self._readers.get(value, ())):
            op = self.ops[at]
            if not self.groupable[at]:
                return False
            if op.name in VIEWS and not self._only_groups_read(op.results[0], depth - 1):
                return False
        return True
