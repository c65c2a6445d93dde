"""Symbolic floats (`1 / math.sqrt(x.shape[0])`) as arithmetic on rank-0 tensors of f64."""

from collections.abc import Mapping
from typing import Any, Protocol

from effcomp.capture.sizes import Ratio, Sizes
from effcomp.errors import CaptureError
from effcomp.ir import Value
from effcomp.ir.core import Attr

_UNARY: Mapping[str, str] = {
    "OpaqueUnaryFn_sqrt": "tensor.sqrt",
    "OpaqueUnaryFn_exp": "tensor.exp",
    "OpaqueUnaryFn_log": "tensor.log",
    "OpaqueUnaryFn_log2": "tensor.log2",
    "OpaqueUnaryFn_sin": "tensor.sin",
    "OpaqueUnaryFn_cos": "tensor.cos",
    "OpaqueUnaryFn_tan": "tensor.tan",
    "OpaqueUnaryFn_tanh": "tensor.tanh",
    "Abs": "tensor.abs",
}
_BINARY: Mapping[str, str] = {
    "IntTrueDiv": "tensor.div",
    "FloatTrueDiv": "tensor.div",
    "FloatPow": "tensor.pow",
    "Pow": "tensor.pow",
    "Add": "tensor.add",
    "Mul": "tensor.mul",
    "Max": "tensor.maximum",
    "Min": "tensor.minimum",
}


class Emitter(Protocol):
    sizes: Sizes

    def emit(self, name: str, *operands: Value, **attrs: Attr) -> Value: ...


def emit_ratio(builder: Emitter, ratio: Ratio) -> Value:
    """The value of a symbolic float. Raises CaptureError for a function the IR has no op for."""
    return _emit(builder, ratio.expr, ratio.shape_env)


def _emit(builder: Emitter, expr: Any, shape_env: Any) -> Value:
    name = expr.func.__name__
    if expr.is_number:
        return builder.emit("tensor.constant", value=float(expr), dtype="f64")
    if expr.is_integer:
        size = builder.sizes.translate(expr, shape_env)
        return builder.emit("tensor.dim", value=size, dtype="f64")
    parts = [expr.args[0]] if name == "ToFloat" else expr.args
    values = [_emit(builder, part, shape_env) for part in parts]
    if name == "ToFloat":
        return values[0]
    if name in _UNARY:
        return builder.emit(_UNARY[name], values[0])
    if name not in _BINARY:
        raise CaptureError(f"a number is computed by {name}, which effcomp cannot express: {expr}")
    found = values[0]
    for value in values[1:]:
        found = builder.emit(_BINARY[name], found, value)
    return found
