"""`effcomp.op`: an op with its meaning in torch, its kernel and the operators it stands for."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from effcomp.errors import PluginError
from effcomp.ir import SPECS, OpSpec, Trait
from effcomp.ir.spec import op as declare
from effcomp.plugins.registry import COMPILER, REGISTRY, CustomOp, origin_of


def op(
    name: str,
    traits: Trait = Trait.PURE,
    *,
    reference: Callable[..., Any] | None = None,
    triton: Callable[..., Any] | str | None = None,
    torch: str | Sequence[str] = (),
) -> Callable[[Callable[..., Any]], OpSpec]:
    """Declare an op of one's own, such as `@effcomp.op("mylib.scale", reference=scale)`.

    The decorated function infers result types from operand types (positional) and attributes
    (keywords); its docstring is the documentation. `reference` computes the op on torch tensors
    and is traced to ATen calls: it is the oracle, the CPU's way and the fallback. `triton` takes
    the op and the target and returns `effcomp.launch(...)` or `Refused(reason)`. An op with
    Trait.ELEMENTWISE has no kernel of its own, it is computed inside others: its `triton` is the
    expression of an element, "tl.maximum({x}, 0.0) * {scale}", over operands and attributes (16-bit
    floats come as float32). `torch` names operators ("mylib::scale") that capture maps to this op;
    their tensor arguments are the operands in order, the others attributes by name. Raises
    PluginError for a name that is taken.
    """
    if "." not in name:
        raise PluginError(f"op {name!r} needs a namespace of its own, such as 'mylib.{name}'")
    if isinstance(triton, str) != (Trait.ELEMENTWISE in traits):
        raise PluginError(
            f"op {name!r}: an elementwise op is computed inside other kernels, its `triton` is an "
            "expression such as 'tl.maximum({x}, 0.0)'; other ops have an emitter, or none"
        )
    if reference is not None and Trait.BODY in traits:
        raise PluginError(f"op {name!r} has a body; a reference takes tensors only")
    emitters: Mapping[str, Callable[..., Any]] = {"cuda": triton} if callable(triton) else {}
    expression = triton if isinstance(triton, str) else ""
    operators = (torch,) if isinstance(torch, str) else tuple(torch)

    def wrap(infer: Callable[..., Any]) -> OpSpec:
        held = SPECS.pop(name, None)
        try:
            if held is not None and name not in REGISTRY.ops:
                raise PluginError(
                    f"op {name!r} is declared by {COMPILER} and by {origin_of(infer)}; rename yours"
                )
            spec = declare(name, traits)(infer)
            _check_expression(spec, expression)
            entry = CustomOp(
                spec, origin_of(infer), reference, MappingProxyType(emitters), expression, operators
            )
            REGISTRY.add_op(entry)
        except BaseException:
            if held is None:
                SPECS.pop(name, None)
            else:
                SPECS[name] = held
            raise
        return spec

    return wrap


def _check_expression(spec: OpSpec, expression: str) -> None:
    """Raise PluginError where an expression names what the op does not have."""
    names = {*spec.operands, *spec.defaults}
    try:
        expression.format(**dict.fromkeys(names, "x"))
    except (KeyError, IndexError, ValueError) as error:
        raise PluginError(
            f"op {spec.name!r}: the expression {expression!r} names {error}; "
            f"it may name {', '.join(sorted(names))}"
        ) from None
