"""Op declarations as text: what the reference and `effcomp ops` show."""

import inspect
from collections.abc import Mapping

from effcomp.ir.spec import OpSpec, Trait

__all__ = ["TRAIT_MEANINGS", "signature_text", "trait_names"]

TRAIT_MEANINGS: Mapping[Trait, str] = {
    Trait.PURE: "no effect: may be removed, merged, moved",
    Trait.COMMUTATIVE: "the two operands may be swapped",
    Trait.ELEMENTWISE: "an element of the result depends on the operands' matching elements only",
    Trait.VIEW: "moves no data: the result is the operand under another index map",
    Trait.REDUCTION: "combines along its dims",
    Trait.BODY: "carries a nested graph whose params are the operands",
}


def signature_text(spec: OpSpec) -> str:
    """`nn.linear(x, weight, [bias])`: optional operands in brackets, then attributes."""
    parts = [
        name if place < spec.required else f"[{name}]" for place, name in enumerate(spec.operands)
    ]
    if spec.variadic:
        parameters = inspect.signature(spec.infer).parameters.values()
        parts += [f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL]
    elif spec.defaults:
        parts.append("*")
    for name, default in spec.defaults.items():
        needed = default is inspect.Parameter.empty
        parts.append(name if needed else f"{name}={default!r}")
    return f"{spec.name}({', '.join(parts)})"


def trait_names(spec: OpSpec) -> tuple[str, ...]:
    """The traits of an op, in the order of their declaration."""
    return tuple(str(t.name).lower() for t in TRAIT_MEANINGS if t in spec.traits)
