"""`tensor.*` arithmetic: one result element from the matching operand elements.

Operands broadcast as in numpy and agree in dtype; capture inserts `tensor.convert` where torch
promotes. `tensor.constant` is exempt: it stands for an immediate at full precision.
"""

from effcomp.ir.ops.infer import broadcast, same_dtype
from effcomp.ir.spec import OpSpec, Trait, op, require
from effcomp.ir.types import ITEMSIZE, TensorType

POINTWISE = Trait.PURE | Trait.ELEMENTWISE


@op("tensor.constant", POINTWISE)
def constant(*, value: bool | int | float, dtype: str) -> TensorType:
    """A rank-0 immediate; emitters use `value` unrounded, as ATen does for Python scalars."""
    return TensorType(dtype, ())


@op("tensor.convert", POINTWISE)
def convert(x: TensorType, *, dtype: str) -> TensorType:
    """x as `dtype`, rounded to nearest even; float to integer truncates towards zero."""
    require(dtype in ITEMSIZE, f"unknown dtype {dtype!r}")
    return x.with_dtype(dtype)


def _unary(name: str, maths: str) -> OpSpec:
    def infer(x: TensorType) -> TensorType:
        return x

    infer.__doc__ = maths
    return op(f"tensor.{name}", POINTWISE)(infer)


def _predicate(name: str, maths: str) -> OpSpec:
    def infer(x: TensorType) -> TensorType:
        return x.with_dtype("bool")

    infer.__doc__ = maths
    return op(f"tensor.{name}", POINTWISE)(infer)


def _binary(name: str, maths: str, commutative: bool = False) -> OpSpec:
    def infer(a: TensorType, b: TensorType) -> TensorType:
        return TensorType(same_dtype(a, b), broadcast(a.shape, b.shape))

    infer.__doc__ = maths
    return op(f"tensor.{name}", POINTWISE | (Trait.COMMUTATIVE if commutative else Trait.NONE))(
        infer
    )


def _comparison(name: str, maths: str, commutative: bool = False) -> OpSpec:
    def infer(a: TensorType, b: TensorType) -> TensorType:
        same_dtype(a, b)
        return TensorType("bool", broadcast(a.shape, b.shape))

    infer.__doc__ = maths
    return op(f"tensor.{name}", POINTWISE | (Trait.COMMUTATIVE if commutative else Trait.NONE))(
        infer
    )


neg = _unary("neg", "-x")
absolute = _unary("abs", "|x|")
sign = _unary("sign", "-1, 0 or 1; NaN gives 0")
exp = _unary("exp", "e**x")
exp2 = _unary("exp2", "2**x")
expm1 = _unary("expm1", "e**x - 1, accurate near 0")
log = _unary("log", "natural logarithm")
log2 = _unary("log2", "logarithm to base 2")
log1p = _unary("log1p", "log(1 + x), accurate near 0")
sqrt = _unary("sqrt", "square root")
rsqrt = _unary("rsqrt", "1 / sqrt(x)")
reciprocal = _unary("reciprocal", "1 / x")
sin = _unary("sin", "sine of x radians")
cos = _unary("cos", "cosine of x radians")
tan = _unary("tan", "tangent of x radians")
tanh = _unary("tanh", "hyperbolic tangent")
sigmoid = _unary("sigmoid", "1 / (1 + exp(-x))")
erf = _unary("erf", "Gauss error function")
floor = _unary("floor", "largest integer not above x")
ceil = _unary("ceil", "smallest integer not below x")
rounding = _unary("round", "nearest integer, ties to even")
trunc = _unary("trunc", "x without its fraction")
relu = _unary("relu", "max(x, 0)")
bitwise_not = _unary("bitwise_not", "every bit flipped; logical not for bool")
logical_not = _predicate("logical_not", "x == 0")
isnan = _predicate("isnan", "whether x is NaN")
isinf = _predicate("isinf", "whether x is plus or minus infinity")

add = _binary("add", "a + b", commutative=True)
sub = _binary("sub", "a - b")
mul = _binary("mul", "a * b", commutative=True)
div = _binary("div", "a / b, true division of floats")
floor_divide = _binary("floor_divide", "floor(a / b)")
trunc_divide = _binary("trunc_divide", "trunc(a / b)")
remainder = _binary("remainder", "a - floor(a / b) * b: the sign of b, as in Python")
power = _binary("pow", "a ** b")
maximum = _binary("maximum", "the larger; NaN wins", commutative=True)
minimum = _binary("minimum", "the smaller; NaN wins", commutative=True)
atan2 = _binary("atan2", "angle of the point (b, a) in radians")
bitwise_and = _binary("bitwise_and", "a & b", commutative=True)
bitwise_or = _binary("bitwise_or", "a | b", commutative=True)
bitwise_xor = _binary("bitwise_xor", "a ^ b", commutative=True)
shift_left = _binary("shift_left", "a << b, integers")
shift_right = _binary("shift_right", "a >> b, arithmetic, integers")
eq = _comparison("eq", "a == b", commutative=True)
ne = _comparison("ne", "a != b", commutative=True)
lt = _comparison("lt", "a < b")
le = _comparison("le", "a <= b")
gt = _comparison("gt", "a > b")
ge = _comparison("ge", "a >= b")
logical_and = _comparison("logical_and", "a != 0 and b != 0", commutative=True)
logical_or = _comparison("logical_or", "a != 0 or b != 0", commutative=True)


@op("tensor.where", POINTWISE)
def where(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    """a where the condition holds, else b."""
    require(condition.dtype == "bool", f"the condition is {condition}, not bool")
    return TensorType(same_dtype(a, b), broadcast(condition.shape, a.shape, b.shape))


@op("nn.gelu", POINTWISE)
def gelu(x: TensorType, *, approximate: str = "none") -> TensorType:
    """x * Phi(x); `tanh` uses 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks 2016)."""
    require(approximate in ("none", "tanh"), f"approximate={approximate!r} is not 'none' or 'tanh'")
    return x


@op("nn.silu", POINTWISE)
def silu(x: TensorType) -> TensorType:
    """x * sigmoid(x) (Elfwing 2017)."""
    return x


@op("nn.softplus", POINTWISE)
def softplus(x: TensorType, *, beta: float = 1.0, threshold: float = 20.0) -> TensorType:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    return x


@op("tensor.dim", POINTWISE)
def size_as_tensor(*, value: int, dtype: str = "i64") -> TensorType:
    """A rank-0 tensor that holds a size (a dim expression), such as s0 * 2."""
    return TensorType(dtype, ())
