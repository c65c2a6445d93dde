"""What a graph says about grouping, computed once a pass: who reads what, what order holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from effcomp.ir import Graph, Op, Value, is_pure
from effcomp.ir.cost import FUNCTION_FLOPS
from effcomp.ir.types import ITEMSIZE, TensorType
from effcomp.passes.grouping.sizes import typical_numel
from effcomp.passes.grouping.vocabulary import (
    GENERATORS,
    PRODUCTS,
    VIEWS,
    is_complex,
    is_elementwise,
    is_pointwise,
    is_row_reduction,
)

# A chain that several groups read is made again in each, if it is as cheap as that.
CHEAP_FLOPS = 8
SMALL_FLOPS = 64
SMALL_NUMEL = 1024
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


class Facts:
    """Readers, copies and order of one graph.

    A *copied* op never stands in a group of its own: every group that reads it holds a copy. Views
    and generators are copied, and so are cheap values that only groups read. The *bases* of a value
    are the values that a copied value is made from; of any other value, itself.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops = graph.ops
        self.producer: dict[Value, int] = {
            r: i for i, op in enumerate(self.ops) for r in op.results
        }
        self.groupable = [is_pointwise(op) or is_row_reduction(op) for op in self.ops]
        self._outputs = frozenset(graph.outputs)
        self._readers: dict[Value, list[int]] = {}
        for i, op in enumerate(self.ops):
            for v in op.operands:
                self._readers.setdefault(v, []).append(i)
        self._written = self._writes()
        self._flops: dict[Value, int] = {}
        self._bases: dict[Value, tuple[Value, ...]] = {}
        self._final: dict[Value, frozenset[int]] = {}
        self.copied: set[int] = set()
        self._choose_copies()

    def bases(self, value: Value) -> tuple[Value, ...]:
        """What `value` is made from once copied ops are copied."""
        if (found := self._bases.get(value)) is None:
            at = self.producer.get(value)
            if at is None or at not in self.copied:
                found = (value,)
            else:
                reads = (b for v in self.ops[at].operands for b in self.bases(v))
                found = tuple(dict.fromkeys(reads))
            self._bases[value] = found
        return found

    def final_readers(self, value: Value) -> frozenset[int]:
        """Positions of the ops that read a value, through copied ops too; -1 for an output."""
        if (found := self._final.get(value)) is None:
            reads = {-1} if value in self._outputs else set[int]()
            for at in self._readers.get(value, ()):
                if at in self.copied:
                    reads.update(r for v in self.ops[at].results for r in self.final_readers(v))
                else:
                    reads.add(at)
            found = self._final[value] = frozenset(reads)
        return found

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

    def _choose_copies(self) -> None:
        for at, op in enumerate(self.ops):
            if is_complex(op) or len(op.results) != 1:
                continue
            if any(self._root(b) in self._written for v in op.operands for b in self.bases(v)):
                continue  # a copy could read after the write
            if op.name in GENERATORS or op.name in VIEWS or self._is_cheap(at):
                self.copied.add(at)
                self._flops[op.result] = self._chain_flops(op)

    def _chain_flops(self, op: Op) -> int:
        own = FUNCTION_FLOPS.get(op.name, 1) if is_elementwise(op) and op.operands else 0
        own = 0 if op.name in _NO_COMPUTE else own
        return own + sum(self._flops.get(v, 0) for v in op.operands)

    def _is_cheap(self, at: int) -> bool:
        """Whether several groups read the value, and each had better make its own."""
        op = self.ops[at]
        if not is_elementwise(op) or op.result in self._outputs:
            return False
        readers = self._readers.get(op.result, [])
        if len(set(readers)) < 2 or not self._only_groups_read(op.result):
            return False
        if op.name == "tensor.convert" and isinstance(op.operands[0].type, TensorType):
            # Widening again costs nothing, and the narrow value is the cheaper one to read.
            return ITEMSIZE[op.operands[0].dtype] <= ITEMSIZE[op.result.dtype]
        made = typical_numel(op.result.shape)
        most = SMALL_FLOPS if made <= SMALL_NUMEL else CHEAP_FLOPS
        bases = {b for v in op.operands for b in self.bases(v)}
        read = sum(typical_numel(b.shape) for b in bases if isinstance(b.type, TensorType))
        constant = all(b not in self.producer for b in bases)
        return constant and self._chain_flops(op) <= most and read <= made

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
