"""`effcomp.op`: an op with its meaning in torch, its kernel and the operators it stands for."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from effcomp.errors import PluginError
from effcomp.ir import SPECS, OpSpec, Trait
from effcomp.ir.spec import op as declare
from effcomp.plugins.registry import COMPILER, CustomOp, origin_of, registry


def op(
    name: str,
    traits: Trait = Trait.PURE,
    *,
    reference: Callable[..., Any] | None = None,
    triton: Callable[..., Any] | None = None,
    torch: str | Sequence[str] = (),
) -> Callable[[Callable[..., Any]], OpSpec]:
    """Declare an op of one's own, such as `@effcomp.op("mylib.scale", reference=scale)`.

    The decorated function infers result types from operand types (positional) and attributes
    (keywords); its docstring is the documentation. `reference` computes the op on torch tensors
    and is traced to ATen calls: it is the oracle, the CPU's way and the fallback. `triton` takes
    the op and the target and returns `effcomp.launch(...)` or `Refused(reason)`. `torch` names
    operators ("mylib::scale") that capture maps to this op; their tensor arguments are the operands
    in order, the others attributes by name. Raises PluginError for a name that is taken.
    """
    if "." not in name:
        raise PluginError(f"op {name!r} needs a namespace of its own, such as 'mylib.{name}'")
    if triton is not None and Trait.ELEMENTWISE in traits:
        raise PluginError(
            f"op {name!r} is elementwise, so groups take it in and no kernel of its own is asked "
            "for: leave out the trait, or `triton`"
        )
    if reference is not None and Trait.BODY in traits:
        raise PluginError(f"op {name!r} has a body; a reference takes tensors only")
    emitters: Mapping[str, Callable[..., Any]] = {} if triton is None else {"cuda": triton}
    operators = (torch,) if isinstance(torch, str) else tuple(torch)

    def wrap(infer: Callable[..., Any]) -> OpSpec:
        held = SPECS.pop(name, None)
        try:
            if held is not None and name not in registry.ops:
                raise PluginError(
                    f"op {name!r} is declared by {COMPILER} and by {origin_of(infer)}; rename yours"
                )
            spec = declare(name, traits)(infer)
            entry = CustomOp(
                spec, origin_of(infer), reference, MappingProxyType(emitters), operators
            )
            registry.add_op(entry)
        except BaseException:
            if held is None:
                SPECS.pop(name, None)
            else:
                SPECS[name] = held
            raise
        return spec

    return wrap
