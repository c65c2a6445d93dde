"""Arithmetic. A constant operand is handed to ATen as a Python scalar wherever it takes one."""

from dataclasses import dataclass

from effcomp.ir import Value
from effcomp.ir.dims import Dim
from effcomp.reference.emitter import ROWS, Constant, Emitter, Place, Row, row


@row("tensor.constant")
def constant(b: Emitter, *, value: bool | int | float, dtype: str) -> Place:
    del b
    return Constant(value, dtype)


@row("tensor.convert")
def convert(b: Emitter, x: Value, *, dtype: str) -> Place:
    return b.convert(x, dtype)


@row("tensor.dim")
def dim(b: Emitter, *, value: Dim, dtype: str) -> Place:
    return b.full((), value, dtype)


@row("tensor.where")
def where(b: Emitter, condition: Value, x: Value, y: Value) -> Place:
    return b.call("aten.where.self", condition, x, y)


@row("nn.gelu")
def gelu(b: Emitter, x: Value, *, approximate: str) -> Place:
    return b.call("aten.gelu.default", x, approximate=approximate)


@row("nn.silu")
def silu(b: Emitter, x: Value) -> Place:
    return b.call("aten.silu.default", x)


@row("nn.softplus")
def softplus(b: Emitter, x: Value, *, beta: float, threshold: float) -> Place:
    return b.call("aten.softplus.default", x, beta, threshold)


UNARY = (
    "neg", "abs", "sign", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt",
    "reciprocal", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "floor", "ceil", "round", "trunc",
    "relu", "bitwise_not", "logical_not", "isnan", "isinf",
)  # fmt: skip


def _unary(target: str) -> Row:
    return lambda b, x: b.call(target, x)


for _name in UNARY:
    ROWS[f"tensor.{_name}"] = _unary(f"aten.{_name}.default")


@dataclass(frozen=True, slots=True)
class Binary:
    """ATen's overloads of one operation: two tensors; a scalar on the right; on the left.

    `mirrored` is the one that computes the same with its operands swapped (a < b is b > a).
    """

    tensors: str
    right: str = ""
    left: str = ""
    mirrored: str = ""
    rounding: str = ""

    def __call__(self, b: Emitter, x: Value, y: Value) -> Place:
        mode = {"rounding_mode": self.rounding} if self.rounding else {}
        if self.right and b.is_constant(y):
            return b.call(f"aten.{self.right}", x, b.immediate(y), **mode)
        if self.mirrored and b.is_constant(x):
            return b.call(f"aten.{self.mirrored}", y, b.immediate(x), **mode)
        if self.left and b.is_constant(x):
            return b.call(f"aten.{self.left}", b.immediate(x), y, **mode)
        return b.call(f"aten.{self.tensors}", x, y, **mode)


def _symmetric(name: str) -> Binary:
    return Binary(f"{name}.Tensor", f"{name}.Scalar", mirrored=f"{name}.Scalar")


BINARY = {
    # As Python's operators reach ATen: add.Tensor and its like take a scalar for the other operand.
    "add": Binary("add.Tensor", "add.Tensor", mirrored="add.Tensor"),
    "sub": Binary("sub.Tensor", "sub.Tensor", mirrored="rsub.Scalar"),
    "mul": Binary("mul.Tensor", "mul.Tensor", mirrored="mul.Tensor"),
    "div": Binary("div.Tensor", "div.Tensor"),
    "floor_divide": Binary("div.Tensor_mode", "div.Tensor_mode", rounding="floor"),
    "trunc_divide": Binary("div.Tensor_mode", "div.Tensor_mode", rounding="trunc"),
    "remainder": Binary("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor"),
    "pow": Binary("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar"),
    "maximum": Binary("maximum.default"),
    "minimum": Binary("minimum.default"),
    "atan2": Binary("atan2.default"),
    "bitwise_and": _symmetric("bitwise_and"),
    "bitwise_or": _symmetric("bitwise_or"),
    "bitwise_xor": _symmetric("bitwise_xor"),
    "shift_left": Binary("bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar"),
    "shift_right": Binary("bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar"),
    "eq": _symmetric("eq"),
    "ne": _symmetric("ne"),
    "lt": Binary("lt.Tensor", "lt.Scalar", mirrored="gt.Scalar"),
    "le": Binary("le.Tensor", "le.Scalar", mirrored="ge.Scalar"),
    "gt": Binary("gt.Tensor", "gt.Scalar", mirrored="lt.Scalar"),
    "ge": Binary("ge.Tensor", "ge.Scalar", mirrored="le.Scalar"),
    "logical_and": Binary("logical_and.default"),
    "logical_or": Binary("logical_or.default"),
}

for _name, _binary in BINARY.items():
    ROWS[f"tensor.{_name}"] = _binary
