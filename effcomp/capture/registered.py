"""Operators that a registered op stands for: `@effcomp.op(..., torch="mylib::scale")`."""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from effcomp.capture.builder import Builder
from effcomp.capture.dtypes import name_of
from effcomp.capture.table import ROWS, Row
from effcomp.errors import PluginError
from effcomp.ir import Value
from effcomp.plugins import CustomOp, load_plugins, registry


def row_of(operator: torch._ops.OpOverload) -> Row | None:
    """How an operator is imported; an op that was registered for it comes first."""
    return registered_operators().get(operator) or ROWS.get(operator)


def registered_operators() -> Mapping[torch._ops.OpOverload, Row]:
    """Rows for the operators that registered ops stand for. Raises PluginError."""
    load_plugins()
    return _rows(registry.version) if registry.torch_ops else {}


@functools.lru_cache(maxsize=1)
def _rows(version: int) -> Mapping[torch._ops.OpOverload, Row]:
    del version
    rows: dict[torch._ops.OpOverload, Row] = {}
    for name, op in registry.torch_ops.items():
        overload = _overload(name)
        if overload is not None:  # else its library is not imported, and no model calls it
            rows[overload] = _row(overload, registry.ops[op])
    return rows


def _overload(name: str) -> torch._ops.OpOverload | None:
    """The operator called "mylib::scale" or "mylib::scale.out"."""
    namespace, _, rest = name.partition("::")
    operator, _, overload = rest.partition(".")
    try:
        return getattr(getattr(getattr(torch.ops, namespace), operator), overload or "default")
    except (AttributeError, RuntimeError):
        return None


def _row(overload: torch._ops.OpOverload, op: CustomOp) -> Row:
    """Tensor arguments are the op's operands in order, the others attributes by name."""
    arguments = overload._schema.arguments
    _check(overload, op)

    def row(b: Builder, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
        given = {a.name: value for a, value in zip(arguments, args, strict=False)} | kwargs
        operands = [v for v in given.values() if isinstance(v, Value)]
        attrs = {k: _attr(v) for k, v in given.items() if not isinstance(v, Value)}
        known = {k: v for k, v in attrs.items() if k in op.spec.defaults}
        found = b.emit_all(op.spec.name, *operands, **known)
        return found if isinstance(b.expected, (tuple, list)) else found[0]

    return row


def _check(overload: torch._ops.OpOverload, op: CustomOp) -> None:
    schema = overload._schema
    where = f"op {op.spec.name!r} of {op.origin} stands for {overload}"
    if schema.is_mutable:
        raise PluginError(f"{where}, which writes in place; only functional operators have ops")
    tensors = [a.name for a in schema.arguments if "Tensor" in str(a.type)]
    if len(tensors) > len(op.spec.operands) and not op.spec.variadic:
        raise PluginError(f"{where}, which takes {len(tensors)} tensors: {', '.join(tensors)}")
    others = [a.name for a in schema.arguments if a.name not in tensors]
    if missing := [name for name in others if name not in op.spec.defaults]:
        raise PluginError(f"{where}, and has no attribute {missing[0]!r} as that has")


def _attr(value: Any) -> Any:
    """An argument as an attribute: dtypes by their names, lists as tuples."""
    match value:
        case torch.dtype():
            return name_of(value)
        case list() | tuple():
            return tuple(_attr(v) for v in value)
        case _:
            return value
