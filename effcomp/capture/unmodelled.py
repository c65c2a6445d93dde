"""`aten.call`: operators that the table has no row for, with everything a caller of them needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor

from effcomp.capture.builder import Builder
from effcomp.capture.dtypes import name_of
from effcomp.capture.sizes import Ratio
from effcomp.errors import CaptureError
from effcomp.ir import Dim, Ref, Tag, TensorType, Value
from effcomp.ir.core import Attr
from effcomp.ir.dims import contiguous_strides, same_shape


def call_torch(
    b: Builder, target: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any], why: str
) -> tuple[Value | None, ...]:
    """Emit an aten.call; its results are the tensors that the operator returns, in order.

    What it returns besides tensors (None, sizes) is no result of the op: None stands in its place.
    """
    operands: list[Value] = []
    plain = tuple(_attr(b, a, operands) for a in args)
    named = tuple((k, _attr(b, a, operands)) for k, a in kwargs.items())
    outputs = b.expected if isinstance(b.expected, (tuple, list)) else (b.expected,)
    _check_outputs(outputs, target)
    tensors = [o for o in outputs if isinstance(o, Tensor)]
    results = b.emit_all(
        "aten.call",
        *operands,
        target=str(target),
        args=plain,
        kwargs=named,
        types=tuple(_type_text(b, o) if isinstance(o, Tensor) else "" for o in outputs),
        why=why,
        effects=has_effects(target),
    )
    laid_out = [_laid_out(b, v, t) for v, t in zip(results, tensors, strict=True)]
    b.ops[-1] = replace(b.ops[-1], results=tuple(laid_out))
    rest = iter(laid_out)
    return tuple(next(rest) if isinstance(o, Tensor) else None for o in outputs)


WHY: Mapping[str, str] = {
    "histc": "counts elements into bins",
    "_grouped_mm": "one product for each group of rows; how long groups are is data",
    "convolution_backward": "the gradients of a convolution",
    "_scaled_dot_product_flash_attention_for_cpu_backward": "the gradients of attention",
    "_scaled_dot_product_flash_attention_backward": "the gradients of attention",
    "_scaled_dot_product_efficient_attention_backward": "the gradients of attention",
    "_scaled_dot_product_cudnn_attention_backward": "the gradients of attention",
}


def reason_for(target: torch._ops.OpOverload) -> str:
    """Why an operator without a row has none."""
    if target.namespace not in ("aten", "prims"):
        return "an operator of another library"
    name = target._schema.name.partition("::")[2]
    if torch.Tag.nondeterministic_seeded in target.tags:
        return "draws random numbers"
    return WHY.get(name, "no row of the table knows it")


def has_effects(target: torch._ops.OpOverload) -> bool:
    """Whether calls keep program order: random numbers, writes, or nothing returned."""
    random = torch.Tag.nondeterministic_seeded in target.tags
    return random or target._schema.is_mutable or not target._schema.returns


def strides_of(b: Builder, tensor: Tensor) -> tuple[Dim, ...] | None:
    """A traced tensor's strides; None where they are row-major."""
    shape, strides = b.sizes.shape(tensor.shape), b.sizes.shape(tensor.stride())
    if same_shape(_without_ones(shape, strides), _without_ones(shape, contiguous_strides(shape))):
        return None
    return strides


def _without_ones(shape: Sequence[Dim], strides: Sequence[Dim]) -> list[Dim]:
    """The strides that matter: nobody ever steps along a dim of size 1."""
    return [stride for size, stride in zip(shape, strides, strict=True) if size != 1]


def _laid_out(b: Builder, value: Value, tensor: Tensor) -> Value:
    return replace(value, strides=strides_of(b, tensor))


def _type_text(b: Builder, tensor: Tensor) -> str:
    return str(TensorType(name_of(tensor.dtype), b.sizes.shape(tensor.shape)))


def _check_outputs(outputs: Sequence[Any], target: object) -> None:
    if any(isinstance(o, (list, tuple)) for o in outputs):
        raise CaptureError(f"{target} returns a list inside a tuple")


def _attr(b: Builder, arg: Any, operands: list[Value]) -> Attr:
    """An argument as an attribute; tensors become operands."""
    match arg:
        case Value():
            if arg not in operands:
                operands.append(arg)
            return Ref(operands.index(arg))
        case list() | tuple():
            return tuple(_attr(b, a, operands) for a in arg)
        case torch.dtype():
            return Tag("dtype", name_of(arg))
        case torch.device():
            return Tag("device", "plan" if arg.type == b.device.type else str(arg))
        case torch.layout():
            return Tag("layout", str(arg).removeprefix("torch."))
        case torch.memory_format():
            return Tag("memory_format", str(arg).removeprefix("torch."))
        case None | bool() | int() | float() | complex() | str() | sympy.Expr():
            return arg
        case Ratio():
            raise CaptureError("an operator that is not modelled takes a symbolic float")
        case _:
            raise CaptureError(f"an operator takes {arg!r}, which effcomp cannot hold")
