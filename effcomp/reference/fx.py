"""Graphs as torch.fx modules: for other compilers, and for looking at."""

import ast
import operator
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from effcomp.ir import Graph, Op, SizeType, Type, parse_dim, print_dim
from effcomp.plan.schema import Arg, BufferArg, Expr, ListArg, SizeArg
from effcomp.reference.emitter import Emitter
from effcomp.reference.executor import argument, operator_named

_OPERATORS: Mapping[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip


def to_fx(graph: Graph, device: torch.device | str = "cpu") -> torch.fx.GraphModule:
    """The graph as a module of ATen calls. Sizes are computed from the inputs' shapes.

    Tensors that calls make out of nothing are made on `device`. A node says in its metadata which
    op it was emitted for ("effcomp") and, in torch's form, that op's source line ("stack_trace").
    """
    return _Builder(graph, torch.device(device)).module()


class _Builder:
    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph = graph
        self.device = device
        self.fx = torch.fx.Graph()
        self.nodes: dict[int, Any] = {}
        self.sizes: dict[str, Any] = {}

    def module(self) -> torch.fx.GraphModule:
        for i, param in enumerate(self.graph.params):
            self.nodes[i] = self.fx.placeholder(f"{param.hint or 'arg'}_{i}")
        for i, param in enumerate(self.graph.params):
            self._bind(i, param.type)
        emitter = Emitter(self.graph)
        outputs = [
            SizeArg(_text(v.type.expr)) if isinstance(v.type, SizeType) else emitter.tensor(v)
            for v in self.graph.outputs
        ]
        for call, origin in zip(emitter.calls, emitter.origins, strict=True):
            target = operator_named(call.target)
            kwargs = {name: self._arg(a) for name, a in call.kwargs}
            node = self.fx.call_function(target, tuple(map(self._arg, call.args)), kwargs)
            node.meta = _meta(origin)
            returns = target._schema.returns
            single = len(returns) == 1 and not isinstance(returns[0].type, torch.ListType)
            for position, local in enumerate(call.results):
                if local is None:
                    continue
                part = (node, position)
                self.nodes[local] = (
                    node if single else self.fx.call_function(operator.getitem, part)
                )
                if (declared := emitter.types.get(local)) is not None:
                    self._bind(local, declared)  # data-dependent sizes
        self.fx.output(tuple(self._arg(o) for o in outputs))
        return torch.fx.GraphModule(torch.nn.Module(), self.fx, self.graph.name)

    def _bind(self, index: int, declared: Type) -> None:
        """Name the sizes that a value is the first to bring along."""
        if isinstance(declared, SizeType):
            if isinstance(declared.expr, sympy.Symbol):
                self.sizes.setdefault(declared.expr.name, torch.fx.Proxy(self.nodes[index]))
            return
        for d, size in enumerate(declared.shape):
            if isinstance(size, sympy.Symbol) and size.name not in self.sizes:
                target = torch.ops.aten.sym_size.int
                node = self.fx.call_function(target, (self.nodes[index], d))
                self.sizes[size.name] = torch.fx.Proxy(node)

    def _arg(self, arg: Arg) -> Any:
        match arg:
            case BufferArg(id=local):
                return self.nodes[local]
            case SizeArg(expr=expr):
                return self._size(expr)
            case ListArg(items=items):
                return [self._arg(item) for item in items]
            case _:
                return argument(arg, {}, {}, self.device)

    def _size(self, expr: Expr) -> Any:
        value = size_value(expr, self.sizes)
        return value.node if isinstance(value, torch.fx.Proxy) else value


def size_value(expr: Expr, sizes: Mapping[str, Any]) -> Any:
    """A size computed with whatever stands for the named ones: ints, SymInts, FX proxies."""
    if isinstance(expr, int):
        return expr
    # A sum of fractions that is whole: its numerator divides.
    over, under = sympy.fraction(sympy.together(parse_dim(expr)))
    text = print_dim(over) if under == 1 else f"({print_dim(over)}) // ({print_dim(under)})"

    def value(tree: ast.expr) -> Any:
        match tree:
            case ast.Constant(value=number):
                return number
            case ast.Name(id=name):
                return sizes[name]
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](value(left), value(right))
            case ast.UnaryOp(operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id=name), args=args):
                return (torch.sym_max if name == "max" else torch.sym_min)(*map(value, args))
            case _:
                raise AssertionError(f"{ast.unparse(tree)} is no size")

    return value(ast.parse(text, mode="eval").body)


def _meta(origin: Op | None) -> dict[str, Any]:
    if origin is None:
        return {}
    file, _, line = origin.loc.rpartition(":")
    if not line.isdecimal():
        return {"effcomp": origin}
    where = f'File "{file}", line {line}, in {origin.scope or origin.name}'
    return {"effcomp": origin, "stack_trace": where}


def _text(expr: Any) -> Expr:
    return expr if isinstance(expr, int) else print_dim(expr)
