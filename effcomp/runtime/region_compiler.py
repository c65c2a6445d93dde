"""CPU regions through Inductor's C++ backend, with symbolic sizes."""

import ast
import functools
import hashlib
import operator
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from effcomp.errors import PlanError
from effcomp.plan.expressions import names_in
from effcomp.plan.schema import (
    Arg,
    AtenCall,
    BufferArg,
    ConstArg,
    Expr,
    ListArg,
    RegionKernel,
    SizeArg,
    TagArg,
    TensorSpec,
)
from effcomp.runtime.calls import operator as overload
from effcomp.runtime.dtypes import dtype_named, tag_value

__all__ = ["CompiledRegion", "RegionSource", "compile_region", "is_warm"]

# Inductor keeps global state while it compiles.
_LOCK = threading.RLock()

_REDUCTIONS = ("amax", "amin", "any", "all", "argm", "cum", "max", "mean", "min", "norm", "prod",
               "softmax", "std", "sum", "var")  # fmt: skip


@dataclass(frozen=True, slots=True)
class RegionSource:
    """A region and the tensors it is compiled for; equal ones share compiled code."""

    kernel: RegionKernel
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The size symbols that the specs and the calls read."""
        exprs = [e for spec in (*self.inputs, *self.outputs) for e in (*spec.shape, *spec.strides)]
        for call in self.kernel.calls:
            for arg in (*call.args, *(arg for _, arg in call.kwargs)):
                exprs += _sizes_in(arg)
        return tuple(sorted(frozenset[str]().union(*map(names_in, exprs))))

    @property
    def writes(self) -> bool:
        """Whether compiled code writes into given outputs, instead of returning new tensors.

        Where a region reduces and has several outputs, Inductor would compute twice what it writes
        in place: it cannot fuse such a write into the loop that reduces. What it concatenates it
        puts into memory of its own, so that writing it would cost another pass.
        """
        calls = self.kernel.calls
        joined = {r for c in calls if c.target == "aten.cat.default" for r in c.results}
        if not joined.isdisjoint(self.kernel.outputs):
            return False
        return len(self.outputs) == 1 or not any(n in c.target for c in calls for n in _REDUCTIONS)


@dataclass(frozen=True, slots=True)
class CompiledRegion:
    """`run(*sizes, *inputs[, *outputs])`; good for sizes that pass `accepts`."""

    source: RegionSource
    run: Callable[..., Any]
    accepts: Callable[[Mapping[str, int]], bool]


def compile_region(
    source: RegionSource, hints: tuple[tuple[str, int], ...], threads: int
) -> CompiledRegion:
    """Compile for any sizes, of which `hints` are typical. Whatever Inductor raises passes.

    A call may come under dispatch modes of its caller's, such as the one that torch.compile checks
    first runs with: these are a thread's own, so the compiler gets a thread without any.
    """
    with ThreadPoolExecutor(1, "compile-region") as executor:
        return executor.submit(_compile, source, hints, threads).result()


def _compile(
    source: RegionSource, hints: tuple[tuple[str, int], ...], threads: int
) -> CompiledRegion:
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    with _LOCK, torch.no_grad(), config.patch({"cpp.threads": threads}):
        env = ShapeEnv(duck_shape=False, specialize_zero_one=False)
        sizes = {name: _symbol(env, name, value) for name, value in hints}
        fake = FakeTensorMode(shape_env=env)
        module = _graph_module(source, sizes)
        outputs = source.outputs if source.writes else ()
        with fake:
            examples = [_empty(spec, sizes) for spec in (*source.inputs, *outputs)]
        with tracing(TracingContext(fake)):
            run = compile_fx(module, [*sizes.values(), *examples])
        guards = env.produce_guards_expression(placeholders=list(sizes.values()))
        marker = _marker(source, hints, threads)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    names = tuple(sizes)

    def accepts(actual: Mapping[str, int]) -> bool:
        if guards is None:
            return True
        return bool(env.evaluate_guards_expression(guards, [actual[name] for name in names]))

    return CompiledRegion(source, run, accepts)  # pyright: ignore[reportArgumentType]


def is_warm(source: RegionSource, hints: tuple[tuple[str, int], ...], threads: int) -> bool:
    """Whether Inductor's disk cache most likely holds the compiled region."""
    return _marker(source, hints, threads).exists()


def _marker(source: RegionSource, hints: tuple[tuple[str, int], ...], threads: int) -> pathlib.Path:
    """Inductor's own keys need its tracing; these empty files stand for them."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    key = hashlib.sha256(repr((torch.__version__, source, hints, threads)).encode()).hexdigest()
    return pathlib.Path(cache_dir(), "effcomp", key[:32])


def _symbol(env: ShapeEnv, name: str, value: int) -> Any:
    from torch._dynamo.source import ConstantSource

    origin = ConstantSource(name)
    symbol = env.create_symbol(
        value, origin, dynamic_dim=DimDynamic.DYNAMIC, do_not_specialize_zero_one=True
    )
    return env.create_symintnode(symbol, hint=value, source=origin)


def _empty(spec: TensorSpec, sizes: Mapping[str, Any]) -> torch.Tensor:
    shape = [_size(dim, sizes) for dim in spec.shape]
    strides = [_size(stride, sizes) for stride in spec.strides]
    return torch.empty_strided(shape, strides, dtype=dtype_named(spec.dtype))


_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,  # exact in a size expression
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def _fold(expr: Expr, named: Callable[[str], Any], apply: Callable[..., Any]) -> Any:
    """Rebuild a size expression over other values than ints: torch's SymInts, or FX nodes."""

    def visit(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return named(name)
            case ast.BinOp(left=left, op=op, right=right):
                return apply(_OPERATORS[type(op)], visit(left), visit(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return apply(operator.neg, visit(operand))
            case ast.Call(func=ast.Name(id=name), args=args):
                pick = torch.sym_max if name == "max" else torch.sym_min
                return functools.reduce(lambda a, b: apply(pick, a, b), map(visit, args))
            case _:
                raise PlanError(f"not a size expression: {expr!r}")

    return expr if isinstance(expr, int) else visit(ast.parse(expr.strip(), mode="eval").body)


def _size(expr: Expr, sizes: Mapping[str, Any]) -> Any:
    return _fold(expr, sizes.__getitem__, lambda function, *args: function(*args))


def _graph_module(source: RegionSource, sizes: Mapping[str, Any]) -> fx.GraphModule:
    """The region's calls as an FX graph over sizes, inputs and, where it writes, outputs."""
    kernel = source.kernel
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in sizes}
    local: dict[int, Any] = {i: graph.placeholder(f"input{i}") for i in range(kernel.inputs)}
    given = [graph.placeholder(f"output{i}") for i in range(len(source.outputs) * source.writes)]
    for call in kernel.calls:
        _add_call(graph, call, local, nodes)
    results = [local[id] for id in kernel.outputs]
    for target, result in zip(given, results, strict=False):
        graph.call_function(torch.ops.aten.copy_.default, (target, result))
    graph.output(() if given else tuple(results))
    return fx.GraphModule(torch.nn.Module(), graph)


def _add_call(
    graph: fx.Graph, call: AtenCall, local: dict[int, Any], sizes: Mapping[str, Any]
) -> None:
    """Append one call; its results go into `local`."""

    def apply(function: Callable[..., Any], *args: Any) -> Any:
        if any(isinstance(arg, fx.Node) for arg in args):
            return graph.call_function(function, args)
        return function(*args)

    def value(arg: Arg) -> Any:
        match arg:
            case BufferArg(id=id):
                return local[id]
            case SizeArg(expr=expr):
                return _fold(expr, sizes.__getitem__, apply)
            case ConstArg(value=constant):
                return constant
            case TagArg(tag=tag, value=name):
                return tag_value(tag, name, torch.device("cpu"))
            case ListArg(items=items):
                return [value(item) for item in items]

    target = overload(call.target)
    node = graph.call_function(
        target, tuple(map(value, call.args)), {name: value(arg) for name, arg in call.kwargs}
    )
    returns = target._schema.returns
    single = len(returns) == 1 and isinstance(returns[0].type, torch.TensorType)
    for index, id in enumerate(call.results):
        if id is not None:
            local[id] = node if single else graph.call_function(operator.getitem, (node, index))


def _sizes_in(arg: Arg) -> Iterator[Expr]:
    match arg:
        case SizeArg(expr=expr):
            yield expr
        case ListArg(items=items):
            for item in items:
                yield from _sizes_in(item)
        case _:
            pass
