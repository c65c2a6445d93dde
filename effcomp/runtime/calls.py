"""Calls of torch operators: the operator is looked up once, the arguments as little as possible."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from effcomp.errors import PlanError
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import (
    Arg,
    AtenCall,
    BufferArg,
    CallStep,
    ConstArg,
    ListArg,
    SizeArg,
    TagArg,
)
from effcomp.runtime.dtypes import tag_value

__all__ = ["buffers_in", "may_alias", "operator", "out_operator", "prepare", "results_of"]

Slots = list[Any]


@functools.cache
def operator(target: str) -> torch._ops.OpOverload:
    """The torch operator named like "aten.mm.default". Raises PlanError."""
    parts = target.removeprefix("torch.ops.").split(".")
    found: Any = torch.ops
    try:
        for part in parts:
            found = getattr(found, part)
    except AttributeError:
        found = None
    if isinstance(found, torch._ops.OpOverloadPacket):
        found = getattr(found, "default", None)
    if not isinstance(found, torch._ops.OpOverload):
        raise PlanError(
            f"torch has no operator {target!r}; import the library that registers it first"
        )
    return found


def out_operator(step: CallStep) -> tuple[torch._ops.OpOverload, tuple[str, ...]]:
    """The overload that writes into given tensors, and the names it takes them by."""
    name = step.out if "." in step.out else f"{step.call.target.rpartition('.')[0]}.{step.out}"
    found = operator(name)
    names = tuple(a.name for a in found._schema.arguments if a.is_out)
    if len(names) != len(step.call.results):
        raise PlanError(f"{name} fills {len(names)} tensors, not {len(step.call.results)}")
    return found, names


# Operators composed of others whose result is always new memory: it is computed.
_COMPUTED = frozenset(
    f"aten.{name}"
    for name in ("linear.default", "matmul.default", "scaled_dot_product_attention.default")
)


@functools.cache
def may_alias(target: str) -> bool:
    """Whether a result of the operator may share memory with an argument.

    Schemas of operators that torch composes from others need not say so (`dropout` in evaluation
    returns its argument), hence all of those may, but for the few that are known to compute.
    """
    found = operator(target)
    if target in _COMPUTED:
        return False
    if any(r.alias_info is not None for r in found._schema.returns):
        return True
    return torch._C._dispatch_has_kernel_for_dispatch_key(found.name(), "CompositeImplicitAutograd")


def buffers_in(call: AtenCall) -> tuple[int, ...]:
    """Ids of the tensors in a call's arguments, in order."""
    found: list[int] = []

    def visit(arg: Arg) -> None:
        match arg:
            case BufferArg(id=id):
                found.append(id)
            case ListArg(items=items):
                for item in items:
                    visit(item)
            case _:
                pass

    for arg in call.args:
        visit(arg)
    for _, arg in call.kwargs:
        visit(arg)
    return tuple(found)


def prepare(
    call: AtenCall,
    target: torch._ops.OpOverload,
    sizes: Mapping[str, int],
    device: torch.device,
    fixed: Sequence[Any] = (),
    extra: Sequence[tuple[str, int]] = (),
) -> Callable[[Slots], Any]:
    """A function from slots (tensors by id) to what the operator returns.

    `fixed` holds the tensors known already, None where a slot has to be read at every call; `extra`
    are keyword arguments that take the tensors of those ids.
    """
    function = target._op  # what OpOverload.__call__ forwards to
    named = (*call.kwargs, *((name, BufferArg(id)) for name, id in extra))
    args = [_fill(arg, sizes, device, fixed) for arg in (*call.args, *(a for _, a in named))]
    names = tuple(name for name, _ in named)
    positional = len(call.args)
    template = [None if callable(a) else a.value for a in args]
    late = tuple((i, a) for i, a in enumerate(args) if callable(a))
    keywords = dict(zip(names, template[positional:], strict=True))
    leading = tuple(template[:positional])
    if not late:
        return lambda slots: function(*leading, **keywords)
    if not names:
        return _positional(function, template, late)

    def run(slots: Slots) -> Any:
        values = list(template)
        for position, fill in late:
            values[position] = fill(slots)
        return function(*values[:positional], **dict(zip(names, values[positional:], strict=True)))

    return run


def _positional(
    function: Callable[..., Any],
    template: Sequence[Any],
    late: Sequence[tuple[int, Callable[[Slots], Any]]],
) -> Callable[[Slots], Any]:
    # One or two tensors among constants are most calls: small models feel every list made here.
    match [(position, fill.id) for position, fill in late if isinstance(fill, _Slot)]:
        case [(i, a)] if len(late) == 1:
            head, tail = tuple(template[:i]), tuple(template[i + 1 :])
            return lambda slots: function(*head, slots[a], *tail)
        case [(i, a), (j, b)] if len(late) == 2:
            head, middle = tuple(template[:i]), tuple(template[i + 1 : j])
            tail = tuple(template[j + 1 :])
            return lambda slots: function(*head, slots[a], *middle, slots[b], *tail)
        case _:
            pass

    def run(slots: Slots) -> Any:
        values = list(template)
        for position, fill in late:
            values[position] = fill(slots)
        return function(*values)

    return run


class _Slot:
    """An argument that is the tensor of a slot."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id

    def __call__(self, slots: Slots) -> Any:
        return slots[self.id]


class _Known:
    """An argument whose value is known before the call."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _fill(
    arg: Arg, sizes: Mapping[str, int], device: torch.device, fixed: Sequence[Any]
) -> _Known | Callable[[Slots], Any]:
    match arg:
        case BufferArg(id=id):
            if id < len(fixed) and fixed[id] is not None:
                return _Known(fixed[id])
            return _Slot(id)
        case SizeArg(expr=expr):
            return _Known(evaluate(expr, sizes))
        case ConstArg(value=value):
            return _Known(value)
        case TagArg(tag=tag, value=value):
            return _Known(tag_value(tag, value, device))
        case ListArg(items=items):
            parts = [_fill(item, sizes, device, fixed) for item in items]
            if not any(callable(part) for part in parts):
                return _Known([part.value for part in parts if isinstance(part, _Known)])
            return lambda slots: [
                part.value if isinstance(part, _Known) else part(slots) for part in parts
            ]


def results_of(returned: Any, count: int, target: str) -> Sequence[Any]:
    """What an operator returned, as a sequence of `count` results. Raises PlanError."""
    if not isinstance(returned, tuple | list):
        returned = () if returned is None and count == 0 else (returned,)
    if len(returned) < count:
        raise PlanError(f"{target} returned {len(returned)} results, the plan expects {count}")
    return returned
