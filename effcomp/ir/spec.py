"""How an op is declared: one typed function that infers its result types."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from types import MappingProxyType
from typing import Any

from effcomp.errors import VerifyError
from effcomp.ir.core import Attr, Graph, Op, Value
from effcomp.ir.types import Type


class Trait(Flag):
    """Facts that passes may rely on."""

    NONE = 0
    PURE = auto()  # no effect: may be removed, merged, moved
    COMMUTATIVE = auto()  # the two operands may be swapped
    ELEMENTWISE = auto()  # result[i] depends only on operand[i], after broadcasting
    VIEW = auto()  # moves no data: the result is the operand under another index map
    REDUCTION = auto()  # combines along attribute `dims` (or `dim`)
    BODY = auto()  # carries a nested graph whose params are the operands


@dataclass(frozen=True, slots=True)
class OpSpec:
    """Facts about one kind of op. Specs never mention passes or backends.

    `required` operands come first; further ones are optional, from the left; `variadic` takes any
    number after those.
    """

    name: str
    operands: tuple[str, ...]
    required: int
    variadic: bool
    defaults: Mapping[str, Any]  # attributes; inspect.Parameter.empty marks a required one
    infer: Callable[..., Type | Sequence[Type]]
    traits: Trait
    doc: str

    def build(
        self,
        *operands: Value,
        body: Graph | None = None,
        loc: str = "",
        scope: str = "",
        **attrs: Attr,
    ) -> Op:
        """Make an op, inferring its results. Raises VerifyError if the operands do not fit."""
        shown = {k: v for k, v in attrs.items() if not _is_default(v, self.defaults.get(k))}
        types = self.result_types(operands, shown, body)
        results = tuple(Value(t) for t in types)
        return Op(self.name, operands, results, MappingProxyType(shown), body, loc, scope)

    def result_types(
        self, operands: Sequence[Value], attrs: Mapping[str, Attr], body: Graph | None
    ) -> tuple[Type, ...]:
        if unknown := attrs.keys() - self.defaults.keys():
            raise VerifyError(f"{self.name} has no attribute {min(unknown)!r}")
        full = {**self.defaults, **attrs}
        if missing := [k for k, v in full.items() if v is inspect.Parameter.empty]:
            raise VerifyError(f"{self.name} needs attribute {missing[0]!r}")
        most = len(self.operands)
        if len(operands) < self.required or (not self.variadic and len(operands) > most):
            raise VerifyError(f"{self.name} takes {self._arity()} operands, got {len(operands)}")
        if (body is not None) != (Trait.BODY in self.traits):
            raise VerifyError(f"{self.name} {'needs a' if body is None else 'takes no'} body")
        if body is not None:
            full["body"] = body
        found = self.infer(*(v.type for v in operands), **full)
        return tuple(found) if isinstance(found, Sequence) else (found,)

    def attr(self, op: Op, name: str) -> Any:
        """The attribute's value, or its default."""
        return op.attrs.get(name, self.defaults[name])

    def _arity(self) -> str:
        most = "or more" if self.variadic else f"to {len(self.operands)}"
        return (
            f"{self.required} {most}"
            if self.required < len(self.operands) or self.variadic
            else f"{self.required}"
        )


def _is_default(value: Attr, default: Any) -> bool:
    """Equal and of one type: True and 1, or 1 and 1.0, are different attributes."""
    return type(value) is type(default) and bool(value == default)


SPECS: dict[str, OpSpec] = {}


def op(name: str, traits: Trait = Trait.PURE) -> Callable[[Callable[..., Any]], OpSpec]:
    """Declare an op: positional parameters are operands, keywords are attributes.

    The function body infers and checks types; its docstring becomes the reference page. A
    parameter `body` (keyword) receives the nested graph of an op with the trait BODY.
    """

    def declare(infer: Callable[..., Any]) -> OpSpec:
        parameters = inspect.signature(infer).parameters.values()
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "body"]
        spec = OpSpec(
            name=name,
            operands=tuple(p.name for p in positional),
            required=sum(p.default is p.empty for p in positional),
            variadic=any(p.kind is p.VAR_POSITIONAL for p in parameters),
            defaults=MappingProxyType({p.name: p.default for p in keywords}),
            infer=infer,
            traits=traits,
            doc=inspect.getdoc(infer) or "",
        )
        if name in SPECS:
            raise ValueError(f"op {name!r} is declared twice")
        SPECS[name] = spec
        return spec

    return declare


def require(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyError(message)


def spec_of(operation: Op) -> OpSpec:
    """The declaration of an op. Raises VerifyError if nobody declared it."""
    if (spec := SPECS.get(operation.name)) is None:
        raise VerifyError(f"unknown op {operation.name!r}")
    return spec


def attr(operation: Op, name: str) -> Any:
    """An op's attribute, or its default."""
    return spec_of(operation).attr(operation, name)


def is_pure(operation: Op) -> bool:
    """Whether nothing but the op's results shows that it ran (bodies included)."""
    if operation.name == "aten.call":
        return not operation.attrs.get("effects", False)
    if Trait.PURE not in spec_of(operation).traits:
        return False
    return operation.body is None or all(is_pure(inner) for inner in operation.body.ops)
