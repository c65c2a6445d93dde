"""`check_pass`: a pass may change a program, not what it computes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from effcomp.errors import VerifyError
from effcomp.ir import Graph, Op, Tag, TensorType, Type, Value, print_graph, verify
from effcomp.ir.core import Attr
from effcomp.ir.type_text import parse_type
from effcomp.ir.types import FLOATS
from effcomp.passes.textual import parse_graph
from effcomp.reference import evaluate
from effcomp.rewrite import Log, Pass, Pipeline
from effcomp.testing.inputs import drawn_arguments
from effcomp.testing.tolerance import assert_close, narrowest

Arg = torch.Tensor | int
Change = Pass | Pipeline | Callable[[Graph], Graph]

# Where a rounding error may decide between two results.
DISCRETE = frozenset(
    f"tensor.{name}"
    for name in (
        "floor", "ceil", "round", "trunc", "floor_divide", "trunc_divide", "remainder", "sign",
        "eq", "ne", "lt", "le", "gt", "ge", "argmax", "argmin", "topk", "sort", "any", "all",
        "logical_not", "logical_and", "logical_or",
    )
)  # fmt: skip


def check_pass(
    change: Change,
    graph: Graph | str,
    args: Sequence[Arg] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
) -> Graph:
    """Run a pass or a pipeline, and compare before and after through the oracle; returns after.

    First the program with every float widened to f64, where any difference is more than rounding.
    Then the program as it is, unless a rounding error may decide something in it. What `state.*`
    ops leave in the arguments is compared too. Without `args` random ones are drawn: for a few
    values of the sizes (or for `sizes`), row by row in memory and otherwise; integers are 0 or 1.
    """
    __tracebackhide__ = True
    program = parse_graph(graph) if isinstance(graph, str) else graph
    if args is not None:
        return _check_with(change, program, args)
    after = program
    for given in drawn_arguments(program, sizes):
        after = _check_with(change, program, given)
    return after


def _check_with(change: Change, graph: Graph, args: Sequence[Arg]) -> Graph:
    __tracebackhide__ = True
    wide = in_float64(graph)
    widens = _is_legal(wide)
    if widens:
        _check(change, wide, [_wide(a) for a in args], "f64")
    dtype = narrowest_of(graph)
    if not any(map(is_discrete, graph.walk())):
        return _check(change, graph, args, dtype)
    after = apply(change, graph)
    verify(after)
    # Rounding errors of f32 are too rare a cause to matter; those of bf16 are not.
    if dtype == "f32" and widens:
        with _shown(graph, after):
            compare(wide, in_float64(after), [_wide(a) for a in args], dtype)
    return after


def _is_legal(wide: Graph) -> bool:
    """Whether all ops take float64 too: those of plugins may not."""
    try:
        verify(wide)
    except VerifyError:
        return False
    return True


def _check(change: Change, graph: Graph, args: Sequence[Arg], dtype: str) -> Graph:
    verify(graph)
    after = apply(change, graph)
    with _shown(graph, after):
        verify(after)
        assert [p.type for p in after.params] == [p.type for p in graph.params], "params changed"
        compare(graph, after, args, dtype)
    return after


@contextlib.contextmanager
def _shown(before: Graph, after: Graph) -> Iterator[None]:
    """Attach both programs to whatever fails inside."""
    try:
        yield
    except Exception as error:
        error.add_note(f"before:\n{print_graph(before)}\nafter:\n{print_graph(after)}")
        raise


def apply(change: Change, graph: Graph) -> Graph:
    """What a pass, a pipeline or a function makes of a graph."""
    if isinstance(change, Pipeline):
        return change.run(graph).graph
    if isinstance(run := getattr(change, "run", None), Callable):
        return run(graph, Log())
    return change(graph)  # pyright: ignore[reportCallIssue]


def compare(before: Graph, after: Graph, args: Sequence[Arg], dtype: str) -> None:
    """Fail unless both compute the same from copies of `args`, within the tolerance of `dtype`."""
    first, second = [_copy(a) for a in args], [_copy(a) for a in args]
    expected, found = evaluate(before, first), evaluate(after, second)
    assert_alike(found, expected, second, first, dtype, args)


def assert_alike(
    found: Sequence[Any],
    expected: Sequence[Any],
    found_args: Sequence[Arg],
    expected_args: Sequence[Arg],
    dtype: str,
    given: Sequence[Arg],
) -> None:
    """Fail unless outputs, and arguments as they were left, agree within `dtype`'s tolerance.

    `given` are the arguments before the call: with the outputs they say what counts as small.
    """
    assert len(expected) == len(found), f"{len(expected)} outputs became {len(found)}"
    scale = max((_size(a) for a in (*given, *expected)), default=0.0)
    pairs = [(f"output {i}", a, b) for i, (a, b) in enumerate(zip(found, expected, strict=True))]
    left = enumerate(zip(found_args, expected_args, strict=True))
    pairs += [(f"argument {i}", a, b) for i, (a, b) in left]
    for what, a, b in pairs:
        if not isinstance(b, torch.Tensor):
            assert a == b, f"{what} is {a}, expected {b}"
            continue
        assert isinstance(a, torch.Tensor), f"{what} is {a}, expected a tensor"
        kind = dtype if b.dtype.is_floating_point else "bool"
        assert_close(a, b, kind, what=what, scale=scale if kind == dtype else 0.0)


def narrowest_of(graph: Graph) -> str:
    """The float dtype that limits how exactly a graph computes; f64 where it has none."""
    values = [*graph.params, *(r for op in graph.walk() for r in op.results)]
    dtypes = {v.dtype for v in values if isinstance(v.type, TensorType)}
    return narrowest("f64", *(dtypes & FLOATS))


def in_float64(graph: Graph) -> Graph:
    """The same program with every float as f64, converts between floats doing nothing."""
    return _Widener({}).graph(graph)


class _Widener:
    def __init__(self, values: dict[Value, Value]) -> None:
        self.values = values

    def graph(self, graph: Graph) -> Graph:
        params = tuple(map(self.value, graph.params))
        ops = tuple(map(self.op, graph.ops))
        return replace(graph, params=params, ops=ops, outputs=tuple(map(self.value, graph.outputs)))

    def value(self, v: Value) -> Value:
        if v not in self.values:
            self.values[v] = replace(v, type=_wide_type(v.type))
        return self.values[v]

    def op(self, op: Op) -> Op:
        return replace(
            op,
            operands=tuple(map(self.value, op.operands)),
            results=tuple(map(self.value, op.results)),
            attrs=MappingProxyType({k: _wide_attr(k, a) for k, a in op.attrs.items()}),
            body=None if op.body is None else _Widener({}).graph(op.body),
        )


def _wide_type(kind: Type) -> Type:
    if isinstance(kind, TensorType) and kind.dtype in FLOATS:
        return kind.with_dtype("f64")
    return kind


def _wide_attr(name: str, attr: Attr) -> Attr:
    match attr:
        case str() if name == "dtype" and attr in FLOATS:
            return "f64"
        case str() if name == "types":
            return str(_wide_type(parse_type(attr)))
        case Tag(kind="dtype", value=value) if value in FLOATS:
            return Tag("dtype", "f64")
        case tuple():
            return tuple(_wide_attr(name, a) for a in attr)
        case _:
            return attr


def is_discrete(op: Op) -> bool:
    """Whether a rounding error may decide what this op gives."""
    return op.name in DISCRETE and any(
        isinstance(v.type, TensorType) and v.dtype in FLOATS for v in op.operands
    )


def _wide(arg: Arg) -> Arg:
    is_float = isinstance(arg, torch.Tensor) and arg.dtype.is_floating_point
    return arg.to(torch.float64) if is_float else arg  # pyright: ignore[reportAttributeAccessIssue]


def _copy(arg: Arg) -> Arg:
    return arg.clone() if isinstance(arg, torch.Tensor) else arg


def _size(arg: Any) -> float:
    """Root mean square of what is finite."""
    if not isinstance(arg, torch.Tensor) or not arg.dtype.is_floating_point:
        return 0.0
    found = arg.double()[torch.isfinite(arg)]
    return float(found.square().mean().sqrt()) if found.numel() else 0.0
