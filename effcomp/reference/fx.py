"""Graphs as torch.fx modules: for other compilers, and for looking at."""

import ast
import operator
from collections.abc import Mapping
from typing import Any

import sympy
import torch

from effcomp.ir import Graph, SizeType, parse_dim, print_dim
from effcomp.plan.schema import Arg, BufferArg, Expr, ListArg, SizeArg
from effcomp.reference.emitter import Emitter
from effcomp.reference.executor import argument, operator_named

_OPERATORS: Mapping[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip


def to_fx(graph: Graph, device: torch.device | str = "cpu") -> torch.fx.GraphModule:
    """The graph as a module of ATen calls. Sizes are computed from the inputs' shapes.

    Tensors that calls make out of nothing are made on `device`.
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
        for call in emitter.calls:
            target = operator_named(call.target)
            kwargs = {name: self._arg(a) for name, a in call.kwargs}
            node = self.fx.call_function(target, tuple(map(self._arg, call.args)), kwargs)
            returns = target._schema.returns
            single = len(returns) == 1 and not isinstance(returns[0].type, torch.ListType)
            for position, local in enumerate(call.results):
                if local is None:
                    continue
                part = (node, position)
                self.nodes[local] = (
                    node if single else self.fx.call_function(operator.getitem, part)
                )
        self.fx.output(tuple(self._arg(o) for o in outputs))
        return torch.fx.GraphModule(torch.nn.Module(), self.fx, self.graph.name)

    def _bind(self, index: int, declared: Any) -> None:
        """Name the sizes that a param brings along."""
        if isinstance(declared, SizeType):
            if isinstance(declared.expr, sympy.Symbol):
                self.sizes.setdefault(declared.expr.name, self.nodes[index])
            return
        for d, size in enumerate(declared.shape):
            if isinstance(size, sympy.Symbol) and size.name not in self.sizes:
                target = torch.ops.aten.sym_size.int
                self.sizes[size.name] = self.fx.call_function(target, (self.nodes[index], d))

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
        if isinstance(expr, int):
            return expr
        # A sum of fractions that is whole: its numerator divides.
        over, under = sympy.fraction(sympy.together(parse_dim(expr)))
        text = print_dim(over) if under == 1 else f"({print_dim(over)}) // ({print_dim(under)})"
        return self._node(ast.parse(text, mode="eval").body)

    def _node(self, tree: ast.expr) -> Any:
        match tree:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.sizes[name]
            case ast.BinOp(left=left, op=op, right=right):
                return self._apply(_OPERATORS[type(op)], left, right)
            case ast.UnaryOp(operand=operand):
                return self._apply(operator.neg, operand)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._apply(torch.sym_max if name == "max" else torch.sym_min, *args)
            case _:
                raise AssertionError(f"{ast.unparse(tree)} is no size")

    def _apply(self, target: Any, *operands: ast.expr) -> Any:
        values = tuple(map(self._node, operands))
        if not any(isinstance(v, torch.fx.Node) for v in values):
            return target(*values)
        return self.fx.call_function(target, values)


def _text(expr: Any) -> Expr:
    return expr if isinstance(expr, int) else print_dim(expr)
