"""How near a pattern came to matching, and what stopped it: for whoever wonders why a rule idles.

The search follows the pattern down from every op it could end in and keeps counting after the first
difference, so that "4 of 5 ops" means what a reader thinks it means. It runs on demand only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from effcomp.ir import Attr, Op, Value, attr
from effcomp.rewrite.log import NearMiss
from effcomp.rewrite.matching import constant_of, find_matches
from effcomp.rewrite.pattern import (
    AttrVar,
    Const,
    Either,
    OpPat,
    Pat,
    Pattern,
    Rest,
    Var,
    parts_of,
    roots,
)
from effcomp.rewrite.program import Program


@dataclass(frozen=True, slots=True)
class _Path:
    """One way down the pattern: ops matched and wanted, the first difference, what was bound."""

    matched: int = 0
    total: int = 0
    reason: str = ""
    bound: Mapping[str, Value] = field(default_factory=dict[str, Value])

    def differs(self, reason: str) -> "_Path":
        return replace(self, reason=self.reason or reason)

    @property
    def rank(self) -> tuple[int, int]:
        """The best path matches most and lacks least."""
        return self.matched, self.matched - self.total


def near_misses(
    rule: str, pattern: Pattern, ops: Sequence[Op], program: Program
) -> Iterator[NearMiss]:
    """Every op that the pattern could end in, and how far it matched there."""
    first, *others = parts_of(pattern)
    ends = roots(first)
    found = False
    for op in ops:
        if op.name not in ends:
            continue
        found = True
        path = _at_op(_Path(), op, first, program)
        total = path.total + sum(map(_size, others))
        reason = path.reason
        if not reason and any(True for _ in find_matches(op, pattern, program)):
            reason, total = "all of the pattern is there: see the refusals", path.total
        elif not reason:
            reason = "the pattern's other outputs are not found beside it"
        yield NearMiss(rule, path.matched, total, reason, op.loc)
    if not found:
        wanted = " or ".join(sorted(ends))
        yield NearMiss(rule, 0, _size(first), f"the program holds no {wanted}", "")


def _size(pattern: Pat) -> int:
    """The least number of ops a pattern speaks of."""
    match pattern:
        case OpPat(args=args):
            return 1 + sum(map(_size, args))
        case Either(options=options):
            return min(map(_size, options))
        case _:
            return 0


def _at_op(path: _Path, op: Op, pattern: Pat, program: Program) -> _Path:
    if isinstance(pattern, Either):
        return _best([_at_op(path, op, option, program) for option in pattern.options])
    assert isinstance(pattern, OpPat), f"{pattern} is no op"
    wanted = " or ".join(spec.name for spec in pattern.specs)
    if all(op.name != spec.name for spec in pattern.specs):
        path = path.differs(f"{op.name} stands where the pattern wants {wanted}{_at(op)}")
        return replace(path, total=path.total + _size(pattern))
    path = replace(path, total=path.total + 1)
    differences = list(_attributes(op, pattern))
    for difference in differences:
        path = path.differs(difference)
    if not differences:
        path = replace(path, matched=path.matched + 1)
    found = [_operands(path, op, op.operands, pattern.args, program)]
    if pattern.swaps and len(op.operands) == 2:
        found.append(_operands(path, op, op.operands[::-1], pattern.args, program))
    return _best(found)


def _attributes(op: Op, pattern: OpPat) -> Iterator[str]:
    for name, wanted in pattern.attrs:
        value: Attr = attr(op, name)
        if not isinstance(wanted, AttrVar) and value != wanted:
            yield f"{op.name} has {name}={value!r}, the pattern wants {name}={wanted!r}{_at(op)}"


def _operands(
    path: _Path, op: Op, operands: tuple[Value, ...], args: tuple[Pat, ...], program: Program
) -> _Path:
    position = 0
    for arg in args:
        if isinstance(arg, Rest):
            return path
        if position < len(operands):
            path = _at_value(path, op, operands[position], arg, program)
            position += 1
        elif not (isinstance(arg, Var) and arg.optional):
            reason = f"{op.name} has {len(operands)} operands, the pattern wants {len(args)}"
            path = path.differs(reason + _at(op))
            path = replace(path, total=path.total + _size(arg))
    if position < len(operands):
        reason = f"{op.name} has {len(operands)} operands, the pattern wants {len(args)}"
        return path.differs(reason + _at(op))
    return path


def _at_value(path: _Path, reader: Op, value: Value, pattern: Pat, program: Program) -> _Path:
    match pattern:
        case Var(name=name):
            known = path.bound.get(name, value)
            if known is not value:
                shown = f"{_show(value)} where the pattern wants {name!r}, {_show(known)}, again"
                return path.differs(f"{reader.name} reads {shown}{_at(reader)}")
            return replace(path, bound={**path.bound, name: value})
        case Const():
            if constant_of(value, program) is None:
                shown = f"{_show(value)}, the pattern wants a number"
                return path.differs(f"{reader.name} reads {shown}{_at(reader)}")
            return path
        case Either(options=options):
            return _best([_at_value(path, reader, value, o, program) for o in options])
        case OpPat(index=index):
            maker = program.producer(value)
            wanted = " or ".join(spec.name for spec in pattern.specs)
            if maker is None:
                path = path.differs(
                    f"{reader.name} reads the input {_show(value)}, the pattern wants "
                    f"{wanted}{_at(reader)}"
                )
                return replace(path, total=path.total + _size(pattern))
            if index >= len(maker.results) or maker.results[index] is not value:
                path = path.differs(f"{reader.name} reads another result of {maker.name}")
            return _at_op(path, maker, pattern, program)
        case Rest():
            return path


def _best(paths: Sequence[_Path]) -> _Path:
    """The path without a difference, else the one that matches most."""
    return max(paths, key=lambda path: (not path.reason, *path.rank))


def _show(value: Value) -> str:
    return f"%{value.hint}" if value.hint else str(value.type)


def _at(op: Op) -> str:
    return f" at {op.loc}" if op.loc else ""
