"""Operators that a registered op stands for: `@effcomp.op(..., torch="mylib::scale")`."""

import functools
from typing import Any

import torch
from torch._ops import OpOverload

from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.dtypes import name_of
from effcomp.capture.table import ROWS, Row
from effcomp.errors import PluginError
from effcomp.ir import Value
from effcomp.plugins import REGISTRY, CustomOp, load_plugins


def row_of(operator: OpOverload) -> Row | None:
    """How an operator is imported; an op that was registered for it comes first.

    Raises PluginError where that op does not fit the operator.
    """
    if (op := op_for(operator)) is not None:
        return _row(operator, op.spec.name, REGISTRY.version)
    return ROWS.get(operator)


def op_for(operator: OpOverload) -> CustomOp | None:
    """The registered op that stands for an operator ("mylib::scale", "mylib::scale.out")."""
    if not REGISTRY.torch_ops:
        return None
    name = operator._schema.name
    if operator._overloadname != "default":
        name = f"{name}.{operator._overloadname}"
    found = REGISTRY.torch_ops.get(name)
    return REGISTRY.ops[found] if found is not None else None


def registered_operators() -> list[OpOverload]:
    """The operators that registered ops stand for, of the libraries that are loaded.

    Raises PluginError where one does not fit its op.
    """
    load_plugins()
    found = ((_overload(name), op) for name, op in REGISTRY.torch_ops.items())
    loaded = [(overload, op) for overload, op in found if overload is not None]
    for overload, op in loaded:
        _check(overload, REGISTRY.ops[op])
    return [overload for overload, _ in loaded]


def _overload(name: str) -> OpOverload | None:
    namespace, _, rest = name.partition("::")
    operator, _, overload = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), operator), overload or "default")
    except (AttributeError, RuntimeError):
        return None  # its library is not imported, and no model calls it


@functools.lru_cache(maxsize=256)
def _row(overload: OpOverload, name: str, version: int) -> Row:
    """Tensor arguments are the op's operands in order, the others attributes by name."""
    del version
    arguments = overload._schema.arguments
    tensors = _check(overload, REGISTRY.ops[name])

    def row(b: Builder, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
        given = {a.name: value for a, value in zip(arguments, args, strict=False)} | kwargs
        passed: list[Any] = [given.get(tensor) for tensor in tensors]
        while passed and passed[-1] is None:
            passed.pop()
        if missing := [t for t, x in zip(tensors, passed, strict=False) if x is None]:
            raise Unmodelled(f"{name} takes what follows {missing[0]!r} only with it")
        operands = [v for x in passed for v in (x if isinstance(x, (list, tuple)) else (x,))]
        attrs = {k: _attr(v) for k, v in given.items() if k not in tensors}
        found = b.emit_all(name, *operands, **attrs)
        return found if isinstance(b.expected, (tuple, list)) else found[0]

    return row


def _check(overload: OpOverload, op: CustomOp) -> list[str]:
    """The names of the tensor arguments. Raises PluginError where the op does not fit."""
    schema = overload._schema
    where = f"op {op.spec.name!r} of {op.origin} stands for {overload}"
    if schema.is_mutable:
        raise PluginError(f"{where}, which writes in place; only functional operators have ops")
    tensors = [a.name for a in schema.arguments if "Tensor" in str(a.type)]
    lists = [a.name for a in schema.arguments if "List[" in str(a.type) and a.name in tensors]
    if lists and not (op.spec.variadic and lists == tensors[-1:]):
        raise PluginError(f"{where}, which takes a list, {lists[0]}: let the op end in *operands")
    if len(tensors) > len(op.spec.operands) and not op.spec.variadic:
        raise PluginError(f"{where}, which takes {len(tensors)} tensors: {', '.join(tensors)}")
    others = [a.name for a in schema.arguments if a.name not in tensors]
    if missing := [name for name in others if name not in op.spec.defaults]:
        raise PluginError(f"{where}, and has no attribute {missing[0]!r} as that has")
    return tensors


def _attr(value: Any) -> Any:
    """An argument as an attribute: dtypes by their names, lists as tuples."""
    match value:
        case torch.dtype():
            return name_of(value)
        case list() | tuple():
            return tuple(_attr(v) for v in value)
        case _:
            return value
