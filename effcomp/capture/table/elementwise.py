"""Arithmetic, comparisons and activations."""

from collections.abc import Mapping

import torch

from effcomp.capture.builder import Builder, Operand, Unmodelled
from effcomp.capture.dtypes import COMPLEX, common_dtype, is_inexact, name_of
from effcomp.capture.table.rows import row
from effcomp.ir import Value

# Computed in the operand's own dtype.
SAME: Mapping[str, str] = {
    "neg": "neg", "abs": "abs", "sign": "sign", "sgn": "sign", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "round": "round", "relu": "relu", "bitwise_not": "bitwise_not",
    "isnan": "isnan", "isinf": "isinf",
}  # fmt: skip
# Computed in floating point; integers become torch's default float.
INEXACT: Mapping[str, str] = {
    name: name
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "reciprocal", "sin",
        "cos", "tan", "tanh", "sigmoid", "erf",
    )
}  # fmt: skip
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
BITWISE: Mapping[str, str] = {
    "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor",
    "bitwise_left_shift": "shift_left", "bitwise_right_shift": "shift_right",
}  # fmt: skip
PLAIN: Mapping[str, str] = {
    "__lshift__.Tensor": "shift_left", "__lshift__.Scalar": "shift_left",
    "__rshift__.Tensor": "shift_right", "__rshift__.Scalar": "shift_right",
    "maximum.default": "maximum", "minimum.default": "minimum",
    "floor_divide.default": "floor_divide", "floor_divide.Scalar": "floor_divide",
    "remainder.Tensor": "remainder", "remainder.Scalar": "remainder",
    "remainder.Scalar_Tensor": "remainder",
    "pow.Tensor_Tensor": "pow", "pow.Tensor_Scalar": "pow", "pow.Scalar": "pow",
}  # fmt: skip


def _declare_unary(aten: str, name: str) -> None:
    @row(f"{aten}.default")
    def same_dtype(b: Builder, x: Value) -> Value:
        if x.dtype in COMPLEX and name in ("abs", "sign"):
            raise Unmodelled(f"{name} of a complex tensor")
        return b.emit(f"tensor.{name}", x)


def _declare_inexact(aten: str, name: str) -> None:
    @row(f"{aten}.default")
    def inexact(b: Builder, x: Value) -> Value:
        return b.emit(f"tensor.{name}", b.inexact(x))


def _declare_binary(aten: str, name: str) -> None:
    @row(aten)
    def promoted(b: Builder, x: Operand, y: Operand) -> Value:
        return b.binary(f"tensor.{name}", x, y)


for aten_name, ir_name in SAME.items():
    _declare_unary(aten_name, ir_name)
for aten_name, ir_name in INEXACT.items():
    _declare_inexact(aten_name, ir_name)
for comparison in COMPARISONS:
    _declare_binary(f"{comparison}.Tensor", comparison)
    _declare_binary(f"{comparison}.Scalar", comparison)
for aten_name, ir_name in BITWISE.items():
    for form in ("Tensor", "Tensor_Scalar", "Scalar", "Scalar_Tensor"):
        _declare_binary(f"{aten_name}.{form}", ir_name)
for aten_name, ir_name in PLAIN.items():
    _declare_binary(aten_name, ir_name)
_declare_binary("mul.Tensor", "mul")
_declare_binary("mul.Scalar", "mul")


@row("atan2.default")
def atan2(b: Builder, x: Value, y: Value) -> Value:
    return b.binary("tensor.atan2", x, y, _inexact_dtype(x, y))


@row("add.Tensor", "add.Scalar")
def add(b: Builder, x: Value, y: Operand, alpha: Operand = 1) -> Value:
    return _scaled(b, "tensor.add", x, y, alpha)


@row("sub.Tensor", "sub.Scalar")
def subtract(b: Builder, x: Operand, y: Operand, alpha: Operand = 1) -> Value:
    return _scaled(b, "tensor.sub", x, y, alpha)


@row("rsub.Tensor", "rsub.Scalar")
def reversed_subtract(b: Builder, x: Value, y: Operand, alpha: Operand = 1) -> Value:
    return _scaled(b, "tensor.sub", y, x, alpha)


def _scaled(b: Builder, name: str, x: Operand, y: Operand, alpha: Operand) -> Value:
    dtype = common_dtype((x, y))
    right = b.operand(y, dtype)
    if alpha != 1:
        right = b.emit("tensor.mul", right, b.operand(alpha, dtype))
    return b.emit(name, b.operand(x, dtype), right)


def _inexact_dtype(*operands: Operand) -> str:
    dtype = common_dtype(operands)
    return dtype if is_inexact(dtype) else name_of(torch.get_default_dtype())


@row("div.Tensor", "div.Scalar")
def divide(b: Builder, x: Value, y: Operand) -> Value:
    return b.binary("tensor.div", x, y, _inexact_dtype(x, y))


@row("div.Tensor_mode", "div.Scalar_mode")
def divide_rounding(b: Builder, x: Value, y: Operand, *, rounding_mode: str | None) -> Value:
    if rounding_mode is None:
        return divide(b, x, y)
    return b.binary(f"tensor.{rounding_mode}_divide", x, y)


@row("clamp.default", "clamp.Tensor")
def clamp(b: Builder, x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    given = [bound for bound in (low, high) if bound is not None]
    dtype = common_dtype((x, *given))
    x = b.convert(x, dtype)
    if low is not None:
        x = b.emit("tensor.maximum", x, b.operand(low, dtype))
    if high is not None:
        x = b.emit("tensor.minimum", x, b.operand(high, dtype))
    return x


@row("clamp_min.default", "clamp_min.Tensor")
def clamp_min(b: Builder, x: Value, low: Operand) -> Value:
    return clamp(b, x, low)


@row("clamp_max.default", "clamp_max.Tensor")
def clamp_max(b: Builder, x: Value, high: Operand) -> Value:
    return clamp(b, x, None, high)


@row("hardtanh.default")
def hardtanh(b: Builder, x: Value, min_val: Operand = -1, max_val: Operand = 1) -> Value:
    return b.emit(
        "tensor.minimum",
        b.emit("tensor.maximum", x, b.operand(min_val, x.dtype)),
        b.operand(max_val, x.dtype),
    )


@row("leaky_relu.default")
def leaky_relu(b: Builder, x: Value, negative_slope: Operand = 0.01) -> Value:
    positive = b.emit("tensor.gt", x, b.constant(0, x.dtype))
    scaled = b.emit("tensor.mul", x, b.operand(negative_slope, x.dtype))
    return b.emit("tensor.where", positive, x, scaled)


@row("elu.default")
def elu(
    b: Builder, x: Value, alpha: Operand = 1, scale: Operand = 1, input_scale: Operand = 1
) -> Value:
    """x > 0 ? scale x : scale alpha (exp(input_scale x) - 1)."""
    inner = x if input_scale == 1 else b.binary("tensor.mul", x, input_scale, x.dtype)
    negative = b.emit("tensor.expm1", inner)
    if alpha != 1:
        negative = b.binary("tensor.mul", negative, alpha, x.dtype)
    positive = b.emit("tensor.gt", x, b.constant(0, x.dtype))
    found = b.emit("tensor.where", positive, x, negative)
    return found if scale == 1 else b.binary("tensor.mul", found, scale, x.dtype)


@row("isfinite.default")
def isfinite(b: Builder, x: Value) -> Value:
    odd = b.emit("tensor.logical_or", b.emit("tensor.isnan", x), b.emit("tensor.isinf", x))
    return b.emit("tensor.logical_not", odd)


@row("logical_not.default")
def logical_not(b: Builder, x: Value) -> Value:
    return b.emit("tensor.logical_not", x)


@row("logical_and.default")
def logical_and(b: Builder, x: Value, y: Value) -> Value:
    return _logical(b, "tensor.logical_and", x, y)


@row("logical_or.default")
def logical_or(b: Builder, x: Value, y: Value) -> Value:
    return _logical(b, "tensor.logical_or", x, y)


@row("logical_xor.default")
def logical_xor(b: Builder, x: Value, y: Value) -> Value:
    return b.emit("tensor.ne", b.convert(x, "bool"), b.convert(y, "bool"))


def _logical(b: Builder, name: str, x: Value, y: Value) -> Value:
    if x.dtype != y.dtype:
        x, y = b.convert(x, "bool"), b.convert(y, "bool")
    return b.emit(name, x, y)


@row("where.self")
def where(b: Builder, condition: Value, x: Value, y: Value) -> Value:
    dtype = common_dtype((x, y))
    return b.emit(
        "tensor.where", b.convert(condition, "bool"), b.convert(x, dtype), b.convert(y, dtype)
    )


@row("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(b: Builder, x: Value, mask: Value, value: Operand) -> Value:
    return b.emit("tensor.where", b.convert(mask, "bool"), b.operand(value, x.dtype), x)


@row("gelu.default")
def gelu(b: Builder, x: Value, *, approximate: str = "none") -> Value:
    return b.emit("nn.gelu", x, approximate=approximate)


@row("silu.default")
def silu(b: Builder, x: Value) -> Value:
    return b.emit("nn.silu", x)


@row("softplus.default")
def softplus(b: Builder, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    return b.emit("nn.softplus", x, beta=float(beta), threshold=float(threshold))


@row("_to_copy.default")
def to_copy(
    b: Builder, x: Value, *, dtype: torch.dtype | None = None, **_placement: object
) -> Value:
    return x if dtype is None else b.convert(x, name_of(dtype))
