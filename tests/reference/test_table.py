"""The table from ops to ATen against torch expressions written by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from effcomp.dtypes import DTYPES
from effcomp.ir import SPECS, Graph, Op, Value, ops, verify
from effcomp.ir.type_text import parse_type
from effcomp.reference import evaluate
from effcomp.reference.emitter import ROWS
from effcomp.testing.inputs import random_argument
from effcomp.testing.tolerance import assert_close

SIZES = {"s0": 3, "s1": 4}
FLOATS = ("f32", "bf16", "f16", "f64")
INTS = ("i64", "i32", "u8")


@dataclass(frozen=True)
class Case:
    """An op on operands (type texts, or numbers for constants), and what torch says it is."""

    op: str
    operands: tuple[str | bool | int | float, ...]
    expected: Callable[..., Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    positive: bool = False

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}({', '.join(map(str, self.operands))}){attrs}".replace(" ", "")


def test_every_op_has_a_row_and_every_row_an_op() -> None:
    assert set(SPECS) == set(ROWS)


UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda x: -x, "abs": torch.abs, "sign": torch.sign, "exp": torch.exp,
    "exp2": torch.exp2, "expm1": torch.expm1, "log": torch.log, "log2": torch.log2,
    "log1p": torch.log1p, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": lambda x: 1 / x,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "erf": torch.erf, "floor": torch.floor, "ceil": torch.ceil,
    "round": torch.round, "trunc": torch.trunc, "relu": F.relu, "isnan": torch.isnan,
    "isinf": torch.isinf, "logical_not": torch.logical_not,
}  # fmt: skip

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "maximum": torch.maximum, "minimum": torch.minimum,
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
FLOAT_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "div": lambda a, b: a / b, "atan2": torch.atan2, "pow": lambda a, b: a**b,
    "floor_divide": lambda a, b: a // b, "remainder": lambda a, b: a % b,
    "trunc_divide": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
}  # fmt: skip
INT_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b, "shift_left": lambda a, b: a << b,
    "shift_right": lambda a, b: a >> b,
}  # fmt: skip
# On these, a number stands for a rank-0 tensor.
NEED_TENSORS = {"maximum", "minimum", "atan2"}
NEED_TENSORS_LEFT = {"div", "floor_divide", "trunc_divide", "shift_left", "shift_right"}


def _scalars(name: str, f: Callable[..., Any], dtype: str, number: Any) -> list[Case]:
    """The op with a constant on the right, and on the left."""
    x = f"{dtype}[3, 4]"

    def tensor(like: Any) -> Any:
        return torch.tensor(number, dtype=like.dtype)

    def right(a: Any) -> Any:
        return f(a, tensor(a) if name in NEED_TENSORS else number)

    def left(b: Any) -> Any:
        return f(tensor(b) if name in NEED_TENSORS | NEED_TENSORS_LEFT else number, b)

    return [
        Case(f"tensor.{name}", (x, number), right, positive=True),
        Case(f"tensor.{name}", (number, x), left, positive=True),
    ]


def arithmetic() -> list[Case]:
    cases = [
        Case(f"tensor.{name}", (f"{dtype}[3, 4]",), f, positive=name in ("log", "log2", "sqrt"))
        for name, f in UNARY.items()
        for dtype in ("f32", "bf16")
    ]
    for name, f in (BINARY | FLOAT_BINARY).items():
        for dtype in ("f32", "bf16"):
            both = (f"{dtype}[3, 1]", f"{dtype}[2, 1, s1]")
            cases.append(Case(f"tensor.{name}", both, f, positive=True))
            cases += _scalars(name, f, dtype, 0.3)
    for name, f in (BINARY | INT_BINARY).items():
        for dtype in INTS:
            cases.append(Case(f"tensor.{name}", (f"{dtype}[3, 4]", f"{dtype}[]"), f))
            cases += _scalars(name, f, dtype, 2)
    for name in ("add", "mul", "maximum", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "lt"):
        f = (BINARY | INT_BINARY)[name]
        cases.append(Case(f"tensor.{name}", ("bool[3, 4]", "bool[4]"), f))
        cases += _scalars(name, f, "bool", True)
    for name in ("floor_divide", "trunc_divide", "remainder"):
        cases.append(Case(f"tensor.{name}", ("i32[3]", 2), lambda x, f=FLOAT_BINARY[name]: f(x, 2)))
    return cases


def _c(op: str, *operands: Any, to: Callable[..., Any], **attrs: Any) -> Case:
    return Case(op, operands, to, attrs)


ELEMENTWISE = [
    _c("tensor.logical_and", "f32[3]", "f32[3]", to=torch.logical_and),
    _c("tensor.logical_or", "i32[3]", "i32[]", to=torch.logical_or),
    _c("tensor.bitwise_not", "i32[3]", to=lambda x: ~x),
    _c("tensor.bitwise_not", "bool[3]", to=lambda x: ~x),
    _c("tensor.abs", "i64[3]", to=torch.abs),
    _c("tensor.logical_not", "i32[3]", to=torch.logical_not),
    _c("tensor.add", 1.5, 0.1, to=lambda: torch.tensor(1.6)),
    _c("tensor.exp", 1.0, to=lambda: torch.tensor(1.0).exp()),
    *(
        _c("tensor.convert", f"{a}[3, 4]", to=lambda x, b=b: x.to(DTYPES[b]), dtype=b)
        for a in (*FLOATS, *INTS, "bool")
        for b in ("f32", "bf16", "i32", "bool")
    ),
    _c("tensor.where", "bool[3, 1]", "f32[4]", "f32[]", to=torch.where),
    _c("tensor.where", "bool[3]", "bf16[3]", 0.1, to=lambda c, a: torch.where(c, a, 0.1)),
    _c("tensor.where", "bool[3]", 2, "i32[3]", to=lambda c, b: torch.where(c, 2, b)),
    _c("tensor.where", "bool[3]", 1.0, 0.0, to=lambda c: c.float()),
    _c("nn.gelu", "f32[3, 4]", to=F.gelu),
    _c("nn.gelu", "bf16[9]", to=lambda x: F.gelu(x, approximate="tanh"), approximate="tanh"),
    _c("nn.silu", "bf16[9]", to=F.silu),
    _c("nn.softplus", "f32[9]", to=lambda x: F.softplus(x, 2.0, 1.0), beta=2.0, threshold=1.0),
    _c("tensor.constant", to=lambda: torch.tensor(2, dtype=torch.int32), value=2, dtype="i32"),
    _c("tensor.constant", to=lambda: torch.tensor(True), value=True, dtype="bool"),
]


def _s(text: str) -> Any:
    """A dim, written as in the IR."""
    found = parse_type(f"f32[{text}]")
    return found.shape[0]  # pyright: ignore[reportAttributeAccessIssue]


VIEWS = [
    _c("tensor.reshape", "f32[s0, 4]", to=lambda x: x.reshape(2, 6), shape=(2, _s("2*s0"))),
    _c("tensor.reshape", "f32[]", to=lambda x: x.reshape(1, 1), shape=(1, 1)),
    _c("tensor.permute", "f32[2, 3, 4]", to=lambda x: x.permute(2, 0, 1), dims=(2, 0, 1)),
    _c("tensor.broadcast", "f32[3, 1]", to=lambda x: x.expand(2, 3, 4), shape=(2, 3, 4)),
    _c("tensor.broadcast", "f32[]", to=lambda x: x.expand(2), shape=(2,)),
    _c("tensor.broadcast", 0.5, to=lambda: torch.full((2,), 0.5), shape=(2,)),
    _c("tensor.slice", "f32[5]", to=lambda x: x[1:4], dim=0, start=1, stop=4),
    _c("tensor.slice", "i32[2, 9]", to=lambda x: x[:, 1:8:3], dim=-1, start=1, stop=8, step=3),
    _c(
        "tensor.slice", "f32[s0, 2*s0]", to=lambda x: x[:, 2:5],
        dim=1, start=_s("s0 - 1"), stop=_s("2*s0 - 1"),
    ),
    _c("tensor.flip", "f32[2, 3]", to=lambda x: x.flip(0, 1), dims=(0, -1)),
    _c("tensor.flip", "f32[2, 3]", to=lambda x: x, dims=()),
    _c("tensor.concat", "f32[2, 3]", "f32[2, 1]", to=lambda *x: torch.cat(x, 1), dim=-1),
    _c("tensor.concat", "f32[s0]", "f32[s0]", "f32[1]", to=lambda *x: torch.cat(x), dim=0),
    _c(
        "tensor.pad", "f32[2, 3]", to=lambda x: F.pad(x, (0, 4, 1, 2), value=7.0),
        low=(1, 0), high=(2, 4), value=7.0,
    ),
    _c("tensor.pad", "bool[2]", to=lambda x: F.pad(x, (1, 0), value=True), low=(1,), high=(0,),
       value=1.0),
    _c("tensor.pad", "i32[s0]", to=lambda x: F.pad(x, (3, 0)), low=(_s("s0"),), high=(0,)),
    _c("tensor.full", to=lambda: torch.full((3, 2), -1.0), shape=(_s("s0"), 2), value=-1.0,
       dtype="f32"),
    _c("tensor.full", to=lambda: torch.zeros((), dtype=torch.bool), shape=(), value=0,
       dtype="bool"),
    _c("tensor.iota", to=lambda: torch.arange(5), size=5),
    _c("tensor.iota", to=lambda: torch.arange(5, 2, -1), size=3, start=5, step=-1),
    _c("tensor.iota", to=lambda: torch.arange(0, 12, 3).float(), size=_s("s1"), step=_s("s0"),
       dtype="f32"),
    _c("tensor.iota", to=lambda: torch.full((3,), 2), size=3, start=2, step=0),
    _c("tensor.triangle", "f32[2, 3, 4]", to=lambda x: x.tril(1), diagonal=1),
    _c("tensor.triangle", "bool[3, 3]", to=lambda x: x.triu(), upper=True),
    _c("tensor.copy", "f32[3]", to=torch.clone),
    _c("tensor.dim", to=lambda: torch.tensor(7), value=_s("2*s0 + 1")),
    _c("tensor.size", to=lambda: 7, value=_s("2*s0 + 1")),
]  # fmt: skip

REDUCTIONS = [
    *(
        _c(f"tensor.{name}", f"{dtype}[2, 3, 4]", to=lambda x, f=f: f(x, (0, 2)), dims=(0, -1))
        for name, f in (("sum", torch.sum), ("mean", torch.mean), ("amax", torch.amax),
                        ("amin", torch.amin))
        for dtype in ("f32", "bf16")
    ),
    _c("tensor.sum", "i32[3, 4]", to=lambda x: x.sum(1, keepdim=True).int(), dims=(1,),
       keepdim=True),
    *(_c(f"tensor.{n}", "f32[3]", to=lambda x: x, dims=()) for n in ("sum", "mean", "amax")),
    _c("tensor.sum", "f32[]", to=lambda x: x, dims=()),
    _c("tensor.sum", "f32[s0, s1]", to=lambda x: x.sum(), dims=(0, 1)),
    _c("tensor.amax", "bool[3, 4]", to=lambda x: x.any(0), dims=(0,)),
    _c("tensor.prod", "f32[2, 3, 4]", to=lambda x: x.prod(2).prod(0), dims=(0, 2)),
    _c("tensor.prod", "i32[4, 2]", to=lambda x: x.prod(0, True).int(), dims=(0,), keepdim=True),
    *(
        _c("tensor.any", f"{dtype}[2, 3, 2]", to=lambda x: (x != 0).any(0).any(-1), dims=(0, 2))
        for dtype in ("bool", "u8", "i32", "f32")
    ),
    _c("tensor.all", "i32[2, 3]", to=lambda x: (x != 0).all(1, True), dims=(1,), keepdim=True),
    _c("tensor.all", "i32[2]", to=lambda x: x != 0, dims=()),
    _c("tensor.any", "bool[2]", to=lambda x: x, dims=()),
    _c("tensor.argmax", "f32[3, 4]", to=lambda x: x.argmax(1), dim=1),
    _c("tensor.argmin", "i32[3, 4]", to=lambda x: x.argmin(0, True), dim=-2, keepdim=True),
    _c("tensor.argmax", "bool[3, 4]", to=lambda x: x.int().argmax(1), dim=1),
    _c("tensor.cumsum", "i32[3, 4]", to=lambda x: x.cumsum(1).int(), dim=1),
    _c("tensor.cumsum", "bf16[3, 4]", to=lambda x: x.cumsum(0), dim=0),
    _c("tensor.topk", "f32[3, 9]", to=lambda x: x.topk(2), k=2),
    _c("tensor.topk", "f32[5, 2]", to=lambda x: x.topk(2, 0, False), k=2, dim=0, largest=False),
    _c("tensor.sort", "f32[3, 9]", to=lambda x: x.sort(stable=True), stable=True),
    _c("tensor.sort", "f32[9]", to=lambda x: x.sort(0, descending=True), dim=0, descending=True),
    _c("nn.softmax", "f32[3, 4]", to=lambda x: x.softmax(0), dim=0),
    _c("nn.softmax", "bf16[3, 4]", to=lambda x: x.softmax(-1), dim=-1),
    _c("nn.softmax", "bf16[3, 4]", to=lambda x: x.softmax(-1, torch.float32), dim=-1, dtype="f32"),
    _c("nn.log_softmax", "f32[3, 4]", to=lambda x: x.log_softmax(1), dim=1),
]  # fmt: skip

INDEXING = [
    *(
        _c("tensor.gather", "f32[5, 3]", f"{dtype}[2, 3]",
           to=lambda x, i: x.gather(0, i.long()), dim=0)
        for dtype in INTS
    ),
    *(
        _c("tensor.take", "f32[2, 5, 3]", f"{dtype}[{shape}]",
           to=lambda x, i: x[:, i.long()], dim=1)
        for dtype in INTS for shape in ("", "4", "2, s1")
    ),
    _c("tensor.take", "f32[5, 3]", -2, to=lambda x: x[-2], dim=0),
    _c("tensor.index", "f32[5, 6]", "i64[4]", "i64[4]", to=lambda x, i, j: x[i, j], dims=(0, 1)),
    _c("tensor.index", "f32[2, 5, 5, 3]", "i32[4, 1]", "i64[2]",
       to=lambda x, i, j: x[:, i.long(), j], dims=(1, 2)),
    _c("tensor.index", "f32[5, 2, 5]", "u8[s0]", "i64[]",
       to=lambda x, i, j: x[i.long(), :, j], dims=(0, 2)),
    _c("tensor.index_put", "f32[5, 2]", "f32[2]", "i64[3]",
       to=lambda x, v, i: x.index_put((i,), v, True), dims=(0,), accumulate=True),
    _c("tensor.index_put", "f32[2, 5]", "f32[]", "i64[]",
       to=lambda x, v, i: x.index_put((torch.arange(2), i.expand(2)), v), dims=(1,)),
    _c("tensor.scatter", "f32[5, 3]", "i64[1, 3]", "f32[1, 3]",
       to=lambda x, i, s: x.scatter(0, i, s), dim=0),
    _c("tensor.scatter", "f32[3, 5]", "i32[3, 4]", "f32[3, 4]",
       to=lambda x, i, s: x.scatter_add(1, i.long(), s), dim=-1, reduce="sum"),
    _c("tensor.slice_scatter", "f32[2, 5]", "f32[2, 2]",
       to=lambda x, s: x.slice_scatter(s, 1, 1, 5, 2), dim=1, start=1, stop=5, step=2),
    _c("nn.embedding", "f32[5, 3]", "i64[2, 2]", to=lambda w, i: F.embedding(i, w)),
    _c("nn.embedding", "bf16[5, 3]", "u8[s0]", to=lambda w, i: F.embedding(i.long(), w)),
]  # fmt: skip


def _attend(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
    """Attention by its definition, in float64."""
    k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = 0.5 * q.double() @ k.double().transpose(-1, -2)
    if mask is not None:
        off = mask
        if mask.dtype == torch.bool:
            off = torch.zeros((), dtype=torch.float64).masked_fill(~mask, -torch.inf)
        scores = scores + off.double()
    if causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)
    # A row that attends to nothing gives zeros, as torch defines it.
    return (scores.softmax(-1).nan_to_num(0.0) @ v.double()).to(q.dtype)


def _causal(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    return _attend(q, k, v, mask, causal=True)


NN = [
    _c("tensor.matmul", "f32[3, 5]", "f32[5, 4]", to=torch.matmul),
    _c("tensor.matmul", "bf16[s0, 3, 5]", "bf16[s0, 5, 4]", to=torch.matmul),
    _c("tensor.matmul", "f32[2, 2, 3, 5]", "f32[2, 2, 5, 4]", to=torch.matmul),
    _c("nn.linear", "f32[2, 3, 5]", "f32[4, 5]", to=F.linear),
    _c("nn.linear", "bf16[s0, 5]", "bf16[4, 5]", "bf16[4]", to=F.linear),
    _c("nn.linear", "f32[5]", "f32[4, 5]", to=F.linear),
    _c("nn.linear", "bf16[2, 5]", "bf16[4, 5]", "f32[4]",
       to=lambda x, w, b: F.linear(x, w, b.bfloat16())),
    *(
        _c("nn.attention", *(f"{dtype}[{lead}{h}, {n}, 8]" for h, n in heads), *mask,
           to=_causal if causal else _attend, scale=0.5, causal=causal)
        for dtype, lead, heads, mask in (
            ("f32", "2, ", ((4, 5), (4, 6), (4, 6)), ()),
            ("f32", "s0, ", ((4, 5), (2, 6), (2, 6)), ()),
            ("f32", "", ((4, 5), (2, 6), (2, 6)), ("bool[5, 6]",)),
            ("f32", "", ((4, 5), (4, 6), (4, 6)), ("f32[4, 5, 6]",)),
            ("f32", "2, ", ((4, 5), (4, 6), (4, 6)), ("f32[6]",)),
            ("f32", "2, ", ((4, 5), (4, 6), (4, 6)), ("bool[2, 1, 1, 6]",)),
            ("f32", "2, 3, ", ((4, 5), (4, 6), (4, 6)), ("f32[3, 1, 5, 6]",)),
            ("f32", "2, 3, ", ((4, 5), (2, 6), (2, 6)), ("f32[1, 5, 6]",)),
            ("f64", "2, 3, ", ((4, 5), (4, 6), (4, 6)), ()),
            ("bf16", "2, ", ((4, 5), (4, 5), (4, 5)), ()),
        )
        for causal in (False, True)
    ),
    _c("nn.layer_norm", "f32[2, 5]", "f32[5]", "f32[5]", eps=1e-3,
       to=lambda x, w, b: F.layer_norm(x, (5,), w, b, 1e-3)),
    _c("nn.layer_norm", "bf16[s0, 4, 5]", eps=1e-3, dims=2,
       to=lambda x: F.layer_norm(x, (4, 5), eps=1e-3)),
    _c("nn.layer_norm", "bf16[2, 5]", "f32[5]", "f32[5]", eps=1e-3,
       to=lambda x, w, b: F.layer_norm(x.float(), (5,), w, b, 1e-3).bfloat16()),
    _c("nn.layer_norm", "f32[2, 5]", "bf16[5]", eps=1e-3,
       to=lambda x, w: F.layer_norm(x, (5,), w.float(), None, 1e-3)),
    _c("nn.rms_norm", "f32[2, 5]", "f32[5]", eps=1e-3,
       to=lambda x, w: F.rms_norm(x, (5,), w, 1e-3)),
    _c("nn.rms_norm", "bf16[2, 3, 5]", eps=1e-3, dims=2,
       to=lambda x: F.rms_norm(x, (3, 5), None, 1e-3)),
    _c("nn.rms_norm", "bf16[2, 5]", "f32[5]", eps=1e-3,
       to=lambda x, w: F.rms_norm(x.float(), (5,), w, 1e-3).bfloat16()),
    _c("nn.group_norm", "f32[2, 6, 4]", "f32[6]", "f32[6]", groups=3, eps=1e-3,
       to=lambda x, w, b: F.group_norm(x, 3, w, b, 1e-3)),
    _c("nn.group_norm", "bf16[s0, 6, 2, 2]", groups=2, eps=1e-3,
       to=lambda x: F.group_norm(x, 2, eps=1e-3)),
    _c("nn.group_norm", "bf16[2, 6, 2, 2]", "f32[6]", groups=2, eps=1e-3,
       to=lambda x, w: F.group_norm(x.float(), 2, w, None, 1e-3).bfloat16()),
    _c("nn.conv", "f32[2, 4, 9, 9]", "f32[6, 2, 3, 3]", "f32[6]", stride=(2, 1), padding=(1, 0),
       dilation=(1, 2), groups=2,
       to=lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2)),
    _c("nn.conv", "f32[s0, 4, 9]", "f32[4, 3, 3]", stride=(2,), padding=(1,), dilation=(1,),
       transposed=True, output_padding=(1,),
       to=lambda x, w: F.conv_transpose1d(x, w, None, 2, 1, 1)),
    _c("nn.conv", "f32[1, 2, 3, 4, 5]", "f32[2, 2, 1, 1, 1]", stride=(1,) * 3, padding=(0,) * 3,
       dilation=(1,) * 3, to=F.conv3d),
    _c("nn.upsample_nearest", "f32[1, 2, 3, 4]", sizes=(6, 8),
       to=lambda x: F.interpolate(x, scale_factor=2.0)),
    _c("nn.upsample_nearest", "f32[1, 2, 5]", sizes=(7,), scales=(1.5,),
       to=lambda x: F.interpolate(x, scale_factor=1.5)),
    _c("nn.upsample_nearest", "f32[1, 2, s0, 4]", sizes=(_s("2*s0"), 4),
       to=lambda x: F.interpolate(x, (6, 4))),
]  # fmt: skip

CASES = [*arithmetic(), *ELEMENTWISE, *VIEWS, *REDUCTIONS, *INDEXING, *NN]
# By their definition rather than by the same kernel, or with another order of rounding.
CLOSE = {"nn.attention", "nn.layer_norm", "nn.rms_norm", "nn.group_norm", "nn.conv"}


def graph_of(case: Case) -> Graph:
    params: list[Value] = []
    made: list[Op] = []
    operands: list[Value] = []
    dtypes = [o.partition("[")[0] for o in case.operands if isinstance(o, str)]
    for operand in case.operands:
        if isinstance(operand, str):
            params.append(Value(parse_type(operand), f"x{len(params)}"))
            operands.append(params[-1])
            continue
        named = dtypes[-1] if (dtypes and dtypes[-1] != "bool") or operand is True else "f32"
        named = "i64" if case.op == "tensor.take" else named
        made.append(ops.elementwise.constant.build(value=operand, dtype=named))
        operands.append(made[-1].result)
    # Every size the case may use is bound by a param.
    params.append(Value(parse_type("f32[s0, s1]"), "sizes"))
    made.append(SPECS[case.op].build(*operands, **case.attrs))
    return Graph("g", tuple(params), tuple(made), made[-1].results)


def assert_same(found: Any, expected: Any, exact: bool) -> None:
    if not isinstance(expected, torch.Tensor):
        assert found == expected
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if exact:
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
    else:
        dtype = next(d for d, known in DTYPES.items() if known is expected.dtype)
        assert_close(found, expected, dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_row_is_what_torch_says(case: Case) -> None:
    graph = graph_of(case)
    verify(graph)
    args: list[Any] = [random_argument(p.type, SIZES) for p in graph.params]
    if case.positive:
        args = [a.abs() + 1 if a.is_floating_point() else a for a in args]
    found = evaluate(graph, args)
    expected = case.expected(*args[:-1])
    expected = tuple(expected) if isinstance(expected, tuple) else (expected,)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other, exact=case.op not in CLOSE)
