"""Matrix products, convolutions and upsampling."""

from collections.abc import Sequence

from effcomp.capture.builder import Builder, Operand, Unmodelled
from effcomp.capture.table.rows import row
from effcomp.ir import Dim, Value
from effcomp.ir.dims import same_shape

Ints = Sequence[int] | int


@row("linear.default")
def linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if weight.tensor.rank == 1:
        raise Unmodelled("the weight is a vector")
    return b.emit("nn.linear", x, weight, *([] if bias is None else [bias]))


def transposed_operand(b: Builder, x: Value) -> Value | None:
    """The matrix that x is the transpose of, if it was made by transposing one."""
    for op in reversed(b.ops):
        if x in op.results:
            swaps = op.name == "tensor.permute" and op.attrs["dims"] == (1, 0)
            return op.operands[0] if swaps else None
    return None


def product(b: Builder, x: Value, y: Value, bias: Value | None = None) -> Value:
    """x[.., K] @ y[K, N] (+ bias[N]): nn.linear with the matrix that y is the transpose of."""
    weight = transposed_operand(b, y)
    if weight is None and bias is None and x.tensor.rank == 2:
        return b.emit("tensor.matmul", x, y)
    return linear(b, x, b.transpose(y) if weight is None else weight, bias)


@row("mm.default")
def mm(b: Builder, x: Value, y: Value) -> Value:
    return product(b, x, y)


@row("bmm.default")
def bmm(b: Builder, x: Value, y: Value) -> Value:
    return b.emit("tensor.matmul", x, y)


@row("addmm.default")
def addmm(
    b: Builder, bias: Value, x: Value, y: Value, *, beta: Operand = 1, alpha: Operand = 1
) -> Value:
    if beta == 1 and alpha == 1 and bias.shape == (y.shape[1],):
        return product(b, x, y, bias)
    return _plus(b, bias, product(b, x, y), beta, alpha)


@row("baddbmm.default")
def baddbmm(
    b: Builder, bias: Value, x: Value, y: Value, *, beta: Operand = 1, alpha: Operand = 1
) -> Value:
    return _plus(b, bias, b.emit("tensor.matmul", x, y), beta, alpha)


def _plus(b: Builder, bias: Value, found: Value, beta: Operand, alpha: Operand) -> Value:
    """beta * bias + alpha * found; a beta of 0 leaves out the bias, NaN and all."""
    if alpha != 1:
        found = b.binary("tensor.mul", found, alpha, found.dtype)
    if beta == 0:
        return found
    if beta != 1:
        bias = b.binary("tensor.mul", bias, beta, bias.dtype)
    return b.emit("tensor.add", bias, found)


@row("mv.default")
def mv(b: Builder, x: Value, y: Value) -> Value:
    return matmul(b, x, y)


@row("dot.default")
def dot(b: Builder, x: Value, y: Value) -> Value:
    return matmul(b, x, y)


@row("matmul.default")
def matmul(b: Builder, x: Value, y: Value) -> Value:
    """numpy's rule: a vector is a row on the left and a column on the right; batches broadcast."""
    rows = b.reshape(x, (1, *x.shape)) if x.tensor.rank == 1 else x
    columns = b.reshape(y, (*y.shape, 1)) if y.tensor.rank == 1 else y
    if columns.tensor.rank == 2:
        found = product(b, rows, columns)
    else:
        batch = _batch(b, rows, columns)
        rows = b.broadcast(rows, (*batch, *rows.shape[-2:]))
        columns = b.broadcast(columns, (*batch, *columns.shape[-2:]))
        found = b.emit("tensor.matmul", rows, columns)
    return b.reshape(found, b.shape)


def _batch(b: Builder, x: Value, y: Value) -> tuple[Dim, ...]:
    """The leading dims of a product; the traced result has them, but not those of vectors."""
    if same_shape(x.shape[:-2], y.shape[:-2]):
        return x.shape[:-2]
    rank = max(x.tensor.rank, y.tensor.rank) - 2
    return b.shape[:rank]


# Convolutions.


def _per_dim(given: Ints, count: int) -> tuple[int, ...]:
    values = (given,) if isinstance(given, int) else tuple(given)
    if not all(isinstance(v, int) for v in values):
        raise Unmodelled("a stride, padding or dilation is symbolic")
    return values * count if len(values) == 1 else values


@row("convolution.default")
def convolution(
    b: Builder, x: Value, weight: Value, bias: Value | None, stride: Ints, padding: Ints,
    dilation: Ints, transposed: bool, output_padding: Ints, groups: int,
) -> Value:  # fmt: skip
    count = weight.tensor.rank - 2
    lone = x.tensor.rank == weight.tensor.rank - 1
    x = b.reshape(x, (1, *x.shape)) if lone else x
    extra = _per_dim(output_padding, count)
    found = b.emit(
        "nn.conv",
        x,
        weight,
        *([] if bias is None else [bias]),
        stride=_per_dim(stride, count),
        padding=_per_dim(padding, count),
        dilation=_per_dim(dilation, count),
        groups=groups,
        transposed=transposed,
        output_padding=extra if any(extra) else (),
    )
    return b.reshape(found, found.shape[1:]) if lone else found


@row("conv1d.default", "conv2d.default", "conv3d.default")
def conv(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Ints = 1,
    padding: Ints = 0, dilation: Ints = 1, groups: int = 1,
) -> Value:  # fmt: skip
    return convolution(b, x, weight, bias, stride, padding, dilation, False, 0, groups)


@row("conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv_padding(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Ints = 1,
    padding: str = "valid", dilation: Ints = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """`same` puts the odd element of padding behind."""
    count = weight.tensor.rank - 2
    if padding == "valid":
        return conv(b, x, weight, bias, stride, 0, dilation, groups)
    total = [d * (k - 1) for d, k in zip(_per_dim(dilation, count), weight.shape[2:], strict=True)]
    if not all(isinstance(t, int) for t in total):
        raise Unmodelled("the kernel's size is symbolic")
    low = [int(t) // 2 for t in total]
    odd = [int(t) % 2 for t in total]
    if any(odd):
        none = [0] * (x.tensor.rank - count)
        x = b.emit("tensor.pad", x, low=(*none, *[0] * count), high=(*none, *odd))
    return conv(b, x, weight, bias, stride, low, dilation, groups)


@row("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(
    b: Builder, x: Value, weight: Value, bias: Value | None = None, stride: Ints = 1,
    padding: Ints = 0, output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Value:  # fmt: skip
    return convolution(b, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


@row("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def upsample_vec(
    b: Builder, x: Value, _size: object = None, scales: Sequence[float] | None = None
) -> Value:
    return _upsample(b, x, tuple(scales or ()))


@row("upsample_nearest1d.default", "upsample_nearest2d.default", "upsample_nearest3d.default")
def upsample(b: Builder, x: Value, _size: object, *scales: float | None) -> Value:
    given = tuple(s for s in scales if s is not None)
    if given and len(given) != x.tensor.rank - 2:
        raise Unmodelled("some dims have a scale and some have none")
    return _upsample(b, x, given)


def _upsample(b: Builder, x: Value, scales: tuple[float, ...]) -> Value:
    if not all(isinstance(s, (int, float)) for s in scales):
        raise Unmodelled("a scale is symbolic")
    return b.emit("nn.upsample_nearest", x, sizes=b.shape[2:], scales=tuple(map(float, scales)))
