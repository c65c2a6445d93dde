"""Which ops one row-wise kernel can hold: rows stay whole, in order, and where they are.

Every value that depends on a reduction is *bound* to its row: it can be computed at any column of
the row at hand, but of no other row. Each dim of such a value is therefore tagged as enumerating
rows, columns, or nothing (size 1), and every op on the way has to keep the tags apart. A reshape
may also cut across rows ([8, 32, 40960] -> [8, 320, 64, 64], a group norm's way back to channels):
then only the row-major position says which row an element is in. All other values can be computed
at any index whatever.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from effcomp.ir import Dim, Op, Value, attr
from effcomp.ir.dims import print_dim, product
from effcomp.ir.ops.infer import axes
from effcomp.passes.grouping.sizes import is_equal, is_same_shape
from effcomp.passes.grouping.vocabulary import NORMS, REDUCTIONS, is_elementwise, is_row_reduction


class Tag(Enum):
    ROW = "row"
    COLUMN = "column"
    ONE = "one"
    ACROSS = "across"  # of every dim, where dims cut across rows


Tags = tuple[Tag, ...]


class Unfit(Exception):
    """Why ops are no row-wise group; caught where the question was asked."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The full shape that a group reduces, and the dims it reduces."""

    shape: tuple[Dim, ...]
    dims: tuple[int, ...]

    @property
    def tags(self) -> Tags:
        def tag(i: int, size: Dim) -> Tag:
            return Tag.ONE if size == 1 else Tag.COLUMN if i in self.dims else Tag.ROW

        return tuple(tag(i, s) for i, s in enumerate(self.shape))

    @property
    def count(self) -> Dim:
        """The number of rows."""
        return product(s for i, s in enumerate(self.shape) if i not in self.dims)

    @property
    def columns(self) -> Dim:
        """The number of elements of a row."""
        return product(self.shape[i] for i in self.dims)

    @property
    def trailing(self) -> bool:
        """Whether a row's elements are neighbours in row-major order."""
        return self.dims == tuple(range(len(self.shape) - len(self.dims), len(self.shape)))

    def is_same(self, other: "Rows") -> bool:
        return self.dims == other.dims and is_same_shape(self.shape, other.shape)

    def __str__(self) -> str:
        return f"[{', '.join(map(print_dim, self.shape))}] over {list(self.dims)}"


def rows_of(op: Op) -> Rows:
    """What a reduction or norm reduces."""
    shape = op.operands[0].shape
    match op.name:
        case "nn.layer_norm" | "nn.rms_norm":
            dims = tuple(range(len(shape) - attr(op, "dims"), len(shape)))
        case "nn.softmax" | "nn.log_softmax" | "tensor.argmax" | "tensor.argmin":
            dims = axes((attr(op, "dim"),), len(shape))
        case _:
            dims = axes(attr(op, "dims"), len(shape))
    return Rows(shape, dims)


def common_rows(ops: Sequence[Op]) -> Rows:
    """The rows of a group, or Unfit if its reductions differ."""
    found: Rows | None = None
    for op in ops:
        if is_row_reduction(op):
            here = rows_of(op)
            if not here.shape or not here.dims:
                raise Unfit("nothing is reduced")
            if found is not None and not found.is_same(here):
                raise Unfit(f"rows differ: {found} and {here}")
            found = here
    if found is None:
        raise Unfit("no reduction")
    return found


def check_rows(ops: Sequence[Op], outputs: Sequence[Value], rows: Rows) -> None:
    """Raise Unfit unless ops in program order are one row-wise group."""
    bound: dict[Value, Tags] = {}
    for op in ops:
        tags = _tags(op, bound, rows)
        if tags is not None:
            bound.update((r, tags) for r in op.results)
    for v in outputs:
        _check_output(v, bound.get(v), rows)


def _tags(op: Op, bound: dict[Value, Tags], rows: Rows) -> Tags | None:
    if op.name in REDUCTIONS or op.name in NORMS:
        return _reduce(op, bound, rows)
    if not any(v in bound for v in op.operands):
        return None
    if is_elementwise(op):
        return _combine(op, bound, rows)
    if op.name == "tensor.reshape":
        return _reshape(op, bound[op.operands[0]], rows)
    if any(Tag.ACROSS in bound[v] for v in op.operands if v in bound):
        raise Unfit(f"{op.name} of a shape that cuts across rows")
    x = op.operands[0]
    if op.name == "tensor.concat":
        return _concat(op, bound, rows)
    if any(v in bound for v in op.operands[1:]) or op.name not in _VIEWS:
        raise Unfit(f"{op.name} of a value bound to its row")
    return _VIEWS[op.name](op, bound[x])


def _reduce(op: Op, bound: dict[Value, Tags], rows: Rows) -> Tags:
    x = op.operands[0]
    if x in bound and bound[x] != rows.tags:
        raise Unfit(f"{op.name} reduces a value whose rows are other dims")
    if any(v in bound for v in op.operands[1:]):
        raise Unfit(f"an affine operand of {op.name} depends on the row")
    if op.name in NORMS:
        return rows.tags
    if attr(op, "keepdim"):
        return tuple(Tag.ONE if i in rows.dims else t for i, t in enumerate(rows.tags))
    return tuple(t for i, t in enumerate(rows.tags) if i not in rows.dims)


def _combine(op: Op, bound: dict[Value, Tags], rows: Rows) -> Tags:
    """Elementwise: dims align from the right, and a row dim meets row dims only."""
    shape = op.results[0].shape
    out: list[Tag] = []
    for back in range(1, len(shape) + 1):
        met = {
            bound[v][-back]
            for v in op.operands
            if v in bound and back <= len(v.shape) and bound[v][-back] is not Tag.ONE
        }
        if len(met) > 1:
            raise Unfit(f"{op.name} lines up rows with columns")
        out.append(met.pop() if met else Tag.ONE if shape[-back] == 1 else Tag.COLUMN)
    tags = tuple(reversed(out))
    if Tag.ACROSS in tags:
        met = {bound[v] for v in op.operands if v in bound}
        if len(met) > 1 or not is_equal(product(shape), product(rows.shape)):
            raise Unfit(f"{op.name} broadcasts a shape that cuts across rows")
        return met.pop()
    _check_rows_whole(op, tags, rows)
    return tags


def _concat(op: Op, bound: dict[Value, Tags], rows: Rows) -> Tags:
    along = axes((attr(op, "dim"),), len(op.results[0].shape))[0]
    tags: list[Tag] = []
    for d, size in enumerate(op.results[0].shape):
        met = {bound[v][d] for v in op.operands if v in bound} - {Tag.ONE}
        if len(met) > 1 or (d == along and Tag.ROW in met):
            raise Unfit("concat of different rows")
        tags.append(met.pop() if met else Tag.ONE if size == 1 else Tag.COLUMN)
    _check_rows_whole(op, tuple(tags), rows)
    return tuple(tags)


def _check_rows_whole(op: Op, tags: Tags, rows: Rows) -> None:
    count = product(s for s, t in zip(op.results[0].shape, tags, strict=True) if t is Tag.ROW)
    if not is_equal(count, rows.count):
        raise Unfit(f"{op.name} has {print_dim(count)} rows, not {print_dim(rows.count)}")


def _permute(op: Op, tags: Tags) -> Tags:
    dims = axes_in_order(op)
    in_rows = [d for d in dims if tags[d] is Tag.ROW]
    if in_rows != sorted(in_rows):
        raise Unfit("a permute changes the order of rows")
    return tuple(tags[d] for d in dims)


def axes_in_order(op: Op) -> tuple[int, ...]:
    rank = len(op.operands[0].shape)
    return tuple(d % rank for d in attr(op, "dims"))


def _slice(op: Op, tags: Tags) -> Tags:
    at = axes((attr(op, "dim"),), len(tags))[0]
    size = op.results[0].shape[at]
    if tags[at] is Tag.ROW and not (
        attr(op, "start") == 0 and is_equal(size, op.operands[0].shape[at])
    ):
        raise Unfit("a slice takes some of the rows")
    tag = Tag.ONE if size == 1 else tags[at]
    return (*tags[:at], tag, *tags[at + 1 :])


def _flip(op: Op, tags: Tags) -> Tags:
    if any(tags[d] is Tag.ROW for d in axes(attr(op, "dims"), len(tags))):
        raise Unfit("a flip moves rows")
    return tags


def _pad(op: Op, tags: Tags) -> Tags:
    low, high = attr(op, "low"), attr(op, "high")
    grown = [i for i in range(len(tags)) if low[i] != 0 or high[i] != 0]
    if any(tags[i] is Tag.ROW for i in grown):
        raise Unfit("a pad adds rows")
    return tuple(Tag.COLUMN if i in grown else t for i, t in enumerate(tags))


def _broadcast(op: Op, tags: Tags) -> Tags:
    new = op.results[0].shape
    old = op.operands[0].shape
    lead = len(new) - len(old)
    out = [Tag.ONE if s == 1 else Tag.COLUMN for s in new[:lead]]
    for size, was, tag in zip(new[lead:], old, tags, strict=True):
        out.append(Tag.COLUMN if was == 1 and size != 1 else tag)
    return tuple(out)


def _reshape(op: Op, tags: Tags, rows: Rows) -> Tags:
    """Dims split and join within blocks of equal size; a block is all rows or all columns."""
    old, new = op.operands[0].shape, op.results[0].shape
    if Tag.ACROSS in tags:
        return _row_major_tags(new, rows)
    out: list[Tag] = []
    for before, after in matching_blocks(old, new):
        met = {tags[i] for i in before} - {Tag.ONE}
        if len(met) > 1:
            if not _is_row_major(old, tags, rows):
                raise Unfit("a reshape joins rows with columns")
            return _row_major_tags(new, rows)
        tag = met.pop() if met else Tag.ONE
        out += [Tag.ONE if new[i] == 1 else tag for i in after]
    return tuple(out)


def _is_row_major(shape: Sequence[Dim], tags: Tags, rows: Rows) -> bool:
    """Whether element l, counted row-major, is in row l // columns."""
    order = [t for t in tags if t is not Tag.ONE]
    columns = product(s for s, t in zip(shape, tags, strict=True) if t is Tag.COLUMN)
    in_order = order == sorted(order, key=lambda t: t is Tag.COLUMN)
    return rows.trailing and in_order and is_equal(columns, rows.columns)


def _row_major_tags(shape: Sequence[Dim], rows: Rows) -> Tags:
    """Tags of a shape that holds every row in row-major order."""
    split = next((i for i, p in enumerate(_prefixes(shape)) if is_equal(p, rows.count)), None)
    if split is None:
        return (Tag.ACROSS,) * len(shape)
    kinds = (Tag.ROW if i < split else Tag.COLUMN for i in range(len(shape)))
    return tuple(Tag.ONE if s == 1 else k for s, k in zip(shape, kinds, strict=True))


def _triangle(op: Op, tags: Tags) -> Tags:
    del op
    return tags


_VIEWS: Mapping[str, Callable[[Op, Tags], Tags]] = {
    "tensor.permute": _permute,
    "tensor.slice": _slice,
    "tensor.flip": _flip,
    "tensor.broadcast": _broadcast,
    "tensor.pad": _pad,
    "tensor.triangle": _triangle,
}


def matching_blocks(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[range, range]]:
    """The finest runs of dims of provably equal product.

    [6, 4] -> [2, 3, 4] gives dim 0 for dims 0 and 1, then dim 1 for dim 2.
    """
    before, after = _prefixes(old), _prefixes(new)
    blocks: list[tuple[range, range]] = []
    i = j = 0
    for end in range(1, len(before)):
        found = next((k for k in range(j, len(after)) if is_equal(before[end], after[k])), None)
        if found is not None and end < len(old):
            blocks.append((range(i, end), range(j, found)))
            i, j = end, found
    blocks.append((range(i, len(old)), range(j, len(new))))
    return blocks


def _prefixes(shape: Sequence[Dim]) -> list[Dim]:
    found: list[Dim] = [1]
    for size in shape:
        found.append(product((found[-1], size)))
    return found


def _check_output(value: Value, tags: Tags | None, rows: Rows) -> None:
    shape = value.shape
    if is_same_shape(shape, rows.shape):
        if tags is None or tags == rows.tags:
            return
        raise Unfit("an output's rows are other dims than those reduced")
    kept = [1 if i in rows.dims else s for i, s in enumerate(rows.shape)]
    left = [s for i, s in enumerate(rows.shape) if i not in rows.dims]
    if is_same_shape(shape, kept) or is_same_shape(shape, left):
        if tags is None or Tag.COLUMN not in tags:
            return
        raise Unfit("an output of one element a row depends on more than its row")
    if not rows.trailing or not is_equal(product(shape), product(rows.shape)):
        raise Unfit(f"an output is [{', '.join(map(print_dim, shape))}], rows are {rows}")
    if tags is None:
        return  # computed at any row-major position
    if Tag.ACROSS not in tags and not _is_row_major(shape, tags, rows):
        raise Unfit("an output's columns come before its rows")
