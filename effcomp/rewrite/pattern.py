"""Patterns: what a rule looks for, built from op declarations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from effcomp.ir import OpSpec, Trait


@dataclass(frozen=True, slots=True)
class AttrVar:
    """In place of an attribute: bind its value (or default) to `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Var:
    """Binds any value. An optional one may be missing at the end of an op's operands."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Binds all the operands that are left, as a tuple."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """Binds a number: a tensor.constant or tensor.full, also seen through views."""

    name: str


@dataclass(frozen=True, slots=True)
class OpPat:
    """An op with one of these declarations, its operands and attributes.

    `name` binds the op; `shared` allows readers other than the matched ops; `index` picks the
    result that is read.
    """

    specs: tuple[OpSpec, ...]
    args: tuple["Pat", ...]
    attrs: tuple[tuple[str, Any], ...]
    name: str = ""
    shared: bool = False
    index: int = 0

    def named(self, name: str) -> "OpPat":
        """Bind the matched op: `m.ops[name]`."""
        return replace(self, name=name)

    def with_other_users(self) -> "OpPat":
        """Match even where others read the result too: the op then stays for them."""
        return replace(self, shared=True)

    def result(self, index: int) -> "OpPat":
        """Match readers of the op's result number `index`."""
        return replace(self, index=index)

    @property
    def swaps(self) -> bool:
        """Whether the operands may stand in either order."""
        return len(self.args) == 2 and Trait.COMMUTATIVE in self.specs[0].traits


@dataclass(frozen=True, slots=True)
class Either:
    """The first alternative that lets the whole pattern match."""

    options: tuple["Pat", ...]


Pat = Var | Rest | Const | OpPat | Either


@dataclass(frozen=True, slots=True)
class Outputs:
    """Several ops that a rule replaces together, each the last of its own pattern.

    The first is where a match starts. The others are looked for near the values that are bound by
    then, so each shares a variable with one before it.
    """

    patterns: tuple[Pat, ...]


Pattern = Pat | Outputs


def pat(spec: OpSpec | tuple[OpSpec, ...], *args: Pat, **attrs: Any) -> OpPat:
    """An op of this kind (or of one of these). Attributes left out may have any value."""
    specs = spec if isinstance(spec, tuple) else (spec,)
    return OpPat(specs, args, tuple(attrs.items()))


def var(name: str) -> Var:
    """Any value; the same name twice means the same value."""
    return Var(name)


def maybe_var(name: str) -> Var:
    """Any value, or none where the op leaves this optional operand out."""
    return Var(name, optional=True)


def rest(name: str) -> Rest:
    """The remaining operands."""
    return Rest(name)


def const(name: str) -> Const:
    """A number that is known now."""
    return Const(name)


def attr_var(name: str) -> AttrVar:
    """Bind an attribute's value: `m.attrs[name]`."""
    return AttrVar(name)


def either(*options: Pat) -> Pat:
    """One of several forms, tried in order."""
    return options[0] if len(options) == 1 else Either(options)


def maybe(wrap: Callable[[Pat], Pat], inner: Pat) -> Pat:
    """`wrap(inner)`, or `inner` alone where that part is left out."""
    return Either((wrap(inner), inner))


def outputs(*patterns: Pat) -> Outputs:
    """Several results at once: `rewrite` returns the values for all of them, in this order."""
    if len(patterns) < 2:
        raise ValueError("outputs(...) takes two patterns or more; one needs no outputs(...)")
    known = set(variables(patterns[0]))
    for pattern in patterns[1:]:
        own = set(variables(pattern))
        if not own & known:
            raise ValueError("each pattern of outputs(...) shares a variable with one before it")
        known |= own
    return Outputs(patterns)


def variables(pattern: Pat) -> Iterator[str]:
    """Names of the values that a pattern binds."""
    match pattern:
        case Var(name=name):
            yield name
        case OpPat(args=args):
            for arg in args:
                yield from variables(arg)
        case Either(options=options):
            for option in options:
                yield from variables(option)
        case _:
            return


def parts_of(pattern: Pattern) -> tuple[Pat, ...]:
    """The patterns that match together."""
    return pattern.patterns if isinstance(pattern, Outputs) else (pattern,)


def roots(pattern: Pat) -> frozenset[str]:
    """Names of the ops that a match of this pattern may end in."""
    match pattern:
        case OpPat(specs=specs):
            return frozenset(s.name for s in specs)
        case Either(options=options):
            return frozenset[str]().union(*map(roots, options))
        case _:
            raise ValueError(f"a rule's pattern must be an op, not {pattern}")


def op_names(pattern: Pat) -> Iterator[str]:
    """Names of all the ops a pattern speaks of."""
    match pattern:
        case OpPat(specs=specs, args=args):
            yield from (s.name for s in specs)
            for arg in args:
                yield from op_names(arg)
        case Either(options=options):
            for option in options:
                yield from op_names(option)
        case Const():
            yield from CONSTANT_VIEWS
        case _:
            return


def depth(pattern: Pat) -> int:
    """How many ops deep a pattern looks."""
    match pattern:
        case OpPat(args=args):
            return 1 + max(map(depth, args), default=0)
        case Either(options=options):
            return max(map(depth, options))
        case Const():
            return CONSTANT_DEPTH
        case _:
            return 0


CONSTANT_VIEWS = frozenset({"tensor.reshape", "tensor.broadcast", "tensor.permute", "tensor.slice"})
CONSTANT_DEPTH = 3
