"""Finding a pattern in a program."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from effcomp.ir import Attr, Op, Value, attr
from effcomp.rewrite.pattern import (
    CONSTANT_DEPTH,
    CONSTANT_VIEWS,
    AttrVar,
    Const,
    Either,
    OpPat,
    Outputs,
    Pat,
    Pattern,
    Rest,
    Var,
    depth,
    roots,
    variables,
)
from effcomp.rewrite.program import Program

Number = bool | int | float
MAX_MATCHES = 64  # of one pattern at one op: alternatives and swapped operands multiply


@dataclass(frozen=True, slots=True)
class Match:
    """Where a pattern matched. `m["q"]` is the value bound to var("q").

    `interior` are the matched ops above the root; `ops` those that the pattern named; `program`
    answers who makes and who reads a value. `others` are the further ops of outputs(...), in the
    pattern's order after the root.
    """

    root: Op
    program: Program
    bound: Mapping[str, Value] = field(default_factory=dict[str, Value])
    many: Mapping[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    attrs: Mapping[str, Attr] = field(default_factory=dict[str, Attr])
    numbers: Mapping[str, Number] = field(default_factory=dict[str, Number])
    ops: Mapping[str, Op] = field(default_factory=dict[str, Op])
    interior: tuple[Op, ...] = ()
    private: tuple[Op, ...] = ()
    others: tuple[Op, ...] = ()

    @property
    def roots(self) -> tuple[Op, ...]:
        """The ops that the rewrite replaces."""
        return (self.root, *self.others)

    def __getitem__(self, name: str) -> Value:
        return self.bound[name]

    def get(self, name: str) -> Value | None:
        """The value bound to `name`, or None where that part is left out."""
        return self.bound.get(name)

    def foreign_use(self) -> Op | None:
        """An interior op that somebody outside the match reads too, though it may not be."""
        inside: dict[Value, int] = {}
        for op in dict.fromkeys((*self.roots, *self.interior)):
            for v in op.operands:
                inside[v] = inside.get(v, 0) + 1
        for op in self.private:
            if op not in self.others and any(
                self.program.uses(r) != inside.get(r, 0) for r in op.results
            ):
                return op
        return None


def find_matches(root: Op, pattern: Pattern, program: Program) -> Iterator[Match]:
    """Every way in which the pattern matches with `root` as its (first) last op."""
    start = Match(root, program)
    if not isinstance(pattern, Outputs):
        return islice(_at_op(start, root, pattern, True), MAX_MATCHES)
    first, *rest = pattern.patterns
    found = (m for one in _at_op(start, root, first, True) for m in _with_others(one, rest))
    return islice(found, MAX_MATCHES)


def _with_others(m: Match, patterns: Sequence[Pat]) -> Iterator[Match]:
    """Find the further outputs one after another, near what is bound already."""
    if not patterns:
        yield m
        return
    first, *rest = patterns
    for op in _candidates(m, first):
        if op not in m.roots:
            for found in _at_op(m, op, first, True):
                yield from _with_others(replace(found, others=(*found.others, op)), rest)


def _candidates(m: Match, pattern: Pat) -> Iterator[Op]:
    """Ops that the pattern may end in, among those below a value it shares with the match."""
    shared = (m.bound[name] for name in variables(pattern) if name in m.bound)
    names = roots(pattern)
    seen: set[Op] = set()
    front = list(islice(shared, 1))
    for _ in range(depth(pattern)):
        readers = [op for v in front for op in m.program.readers(v) if op not in seen]
        seen.update(readers)
        yield from (op for op in dict.fromkeys(readers) if op.name in names)
        front = [r for op in dict.fromkeys(readers) for r in op.results]


def constant_of(value: Value, program: Program) -> Number | None:
    """The number that every element of a value is, where that is known."""
    for _ in range(CONSTANT_DEPTH):
        maker = program.producer(value)
        if maker is None:
            return None
        if maker.name in ("tensor.constant", "tensor.full"):
            number = maker.attrs["value"]
            assert isinstance(number, (bool, int, float)), f"{maker.name} of {number}"
            return number
        if maker.name not in CONSTANT_VIEWS:
            return None
        value = maker.operands[0]
    return None


def _at_op(m: Match, op: Op, pattern: Pat, is_root: bool) -> Iterator[Match]:
    if isinstance(pattern, Either):
        for option in pattern.options:
            yield from _at_op(m, op, option, is_root)
        return
    assert isinstance(pattern, OpPat), f"{pattern} cannot be a root"
    if all(op.name != s.name for s in pattern.specs):
        return
    if (bound := _attributes(m, op, pattern)) is None:
        return
    if pattern.name:
        if bound.ops.get(pattern.name, op) is not op:
            return
        bound = replace(bound, ops={**bound.ops, pattern.name: op})
    if not is_root and op not in bound.interior:
        private = bound.private if pattern.shared else (*bound.private, op)
        bound = replace(bound, interior=(*bound.interior, op), private=private)
    yield from _operands(bound, op.operands, pattern.args)
    if pattern.swaps and len(op.operands) == 2 and pattern.args[0] != pattern.args[1]:
        yield from _operands(bound, op.operands[::-1], pattern.args)


def _attributes(m: Match, op: Op, pattern: OpPat) -> Match | None:
    found: dict[str, Attr] = {}
    for name, wanted in pattern.attrs:
        value: Attr = attr(op, name)
        if isinstance(wanted, AttrVar):
            if m.attrs.get(wanted.name, value) != value:
                return None
            found[wanted.name] = value
        elif value != wanted:
            return None
    return replace(m, attrs={**m.attrs, **found}) if found else m


def _operands(m: Match, operands: tuple[Value, ...], args: tuple[Pat, ...]) -> Iterator[Match]:
    if not args:
        if not operands:
            yield m
        return
    first = args[0]
    if isinstance(first, Rest):
        yield replace(m, many={**m.many, first.name: operands})
        return
    if not operands:
        if isinstance(first, Var) and first.optional:
            yield from _operands(m, operands, args[1:])
        return
    for found in _at_value(m, operands[0], first):
        yield from _operands(found, operands[1:], args[1:])


def _at_value(m: Match, value: Value, pattern: Pat) -> Iterator[Match]:
    match pattern:
        case Var(name=name):
            if m.bound.get(name, value) is value:
                yield replace(m, bound={**m.bound, name: value})
        case Const(name=name):
            number = constant_of(value, m.program)
            if number is not None:
                numbers = {**m.numbers, name: number}
                yield replace(m, bound={**m.bound, name: value}, numbers=numbers)
        case Either(options=options):
            for option in options:
                yield from _at_value(m, value, option)
        case OpPat(index=index):
            maker = m.program.producer(value)
            if maker is not None and index < len(maker.results) and maker.results[index] is value:
                yield from _at_op(m, maker, pattern, False)
        case Rest():
            raise ValueError("rest(...) stands for operands, not for one value")
