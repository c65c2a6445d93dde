"""Declarative rewriting: a Rule says what to match, when, and what to build."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from effcomp.ir import Attr, Dim, Graph, Op, OpSpec, Value, ops
from effcomp.ir.dims import same_shape
from effcomp.rewrite.matching import Match, Number
from effcomp.rewrite.pattern import Pattern

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a rule that matched by shape was not applied. An empty reason is not reported."""

    reason: str = ""


@dataclass(slots=True)
class Builder:
    """Collects the ops that a rewrite creates; they inherit the root's source line and scope."""

    loc: str = ""
    scope: str = ""
    ops: list[Op] = field(default_factory=list[Op])

    def add(
        self, spec: OpSpec, *operands: Value, body: Graph | None = None, **attrs: Attr
    ) -> Value:
        """Add an op with one result."""
        return self.add_op(spec, *operands, body=body, **attrs).result

    def add_op(
        self, spec: OpSpec, *operands: Value, body: Graph | None = None, **attrs: Attr
    ) -> Op:
        """Add an op with any number of results."""
        made = spec.build(*operands, body=body, loc=self.loc, scope=self.scope, **attrs)
        self.ops.append(made)
        return made

    def constant(self, value: Number, dtype: str) -> Value:
        """A rank-0 immediate."""
        return self.add(ops.elementwise.constant, value=value, dtype=dtype)

    def convert(self, x: Value, dtype: str) -> Value:
        """x as `dtype`; x itself where it is already."""
        return x if x.dtype == dtype else self.add(ops.elementwise.convert, x, dtype=dtype)

    def reshape(self, x: Value, shape: tuple[Dim, ...]) -> Value:
        """x under another shape; x itself where it has it already."""
        return x if same_shape(x.shape, shape) else self.add(ops.view.reshape, x, shape=shape)

    def carry_hints(
        self, replaced: Sequence[Value], values: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        """Let new values keep the names of those that they replace."""
        made = {r for op in self.ops for r in op.results}
        renamed = {
            new: replace(new, hint=old.hint)
            for old, new in zip(replaced, values, strict=True)
            if new in made and old.hint and not new.hint
        }
        if renamed:
            self.ops = [
                replace(
                    op,
                    operands=tuple(renamed.get(v, v) for v in op.operands),
                    results=tuple(renamed.get(v, v) for v in op.results),
                )
                for op in self.ops
            ]
        return tuple(renamed.get(v, v) for v in values)


class Rule(ABC, Generic[Facts]):
    """A frozen dataclass: fields are options; nothing is stored while matching.

    The docstring says `before => after`. `rewrite` gives a value for each result of the pattern's
    root; for `outputs(...)`, of all its roots in order.
    """

    @property
    def name(self) -> str:
        """What reports and `trace` call it: the name of the class."""
        return type(self).__name__

    @abstractmethod
    def pattern(self) -> Pattern:
        """What to look for; asked once a run."""

    def check(self, m: Match) -> Facts | Refused:
        """Return the facts that `rewrite` needs, or say why not; left out where it needs none."""
        return cast("Facts", None)

    @abstractmethod
    def rewrite(self, m: Match, b: Builder, facts: Facts) -> Value | tuple[Value, ...]:
        """Build what stands for the results, of the same types; several as a tuple."""


AnyRule = Rule[Any]
