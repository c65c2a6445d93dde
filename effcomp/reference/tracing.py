"""Tracing a function on torch tensors for every size at once, and for no device in particular.

It is traced before dispatch: `linear` and attention stay whole, and no device decides anything.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import SymInt, Tensor
from torch._dynamo.source import ConstantSource
from torch._guards import tracing
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.fx.node import map_arg
from torch.utils._sympy.printers import PythonPrinter

from effcomp.dtypes import DTYPES
from effcomp.ir import Attr, Dim, SizeType, Type, parse_dim, print_dim
from effcomp.plan.expressions import evaluate

# Sizes while tracing: divisible by what programs divide by, and none like another.
EVEN = 2 * 2 * 2 * 2 * 3 * 5 * 7
# Primes, which nothing divides; then small sizes, down to the smallest.
OTHERS = (10_007, 10_000_019, *range(64, 1, -1))


@dataclass(slots=True)
class Trace:
    """A traced function and the sizes it was traced with; `sizes` gives some another value.

    `gm` takes the tensors, then the sizes that are no operand's shape.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)
    env: ShapeEnv = field(default_factory=ShapeEnv)
    symbols: dict[str, Any] = field(default_factory=dict)
    gm: GraphModule = field(init=False)

    def run(
        self, function: Callable[..., Any], types: Sequence[Type], attrs: Mapping[str, Attr]
    ) -> None:
        """Trace the function for operands of these types."""
        # A model may be in the middle of its own tracing, with sizes of its own.
        apart = (tracing(None), unset_fake_temporarily(), torch.no_grad())
        with ExitStack() as stack:
            for context in (*apart, FakeTensorMode(shape_env=self.env)):
                stack.enter_context(context)
            operands = [self._example(t) for t in types]
            named = {name: self._attr(value) for name, value in attrs.items()}
            self.gm = _fx(function, operands, named)

    def dim(self, size: int | SymInt) -> Dim:
        """A size of torch's as the IR writes it."""
        if not isinstance(size, SymInt):
            return int(size)
        return parse_dim(self.show(size.node.expr))

    def show(self, expr: Any) -> str:
        """An expression of torch's in Python, over the IR's names."""
        return PythonPrinter().doprint(expr.xreplace(self._names()))

    def questions(self) -> list[sympy.Basic]:
        """What was asked about sizes, and answered by their values here.

        That a size is neither 0 nor 1 is what torch takes for granted of every symbol.
        """
        asked = (guard.expr for guard in self.env.guards)
        return [e for e in asked if getattr(e, "free_symbols", None) and not _is_granted(e)]

    def other_answer(self, question: sympy.Basic) -> dict[str, int] | None:
        """One changed size for which a question has another answer; None where there are none."""
        names = {symbol: name.name for symbol, name in self._names().items()}
        here = {symbol: sympy.Integer(self.hints[name]) for symbol, name in names.items()}
        for symbol in sorted(question.free_symbols & names.keys(), key=str):
            named = {int(n) + d for n in question.atoms(sympy.Integer) for d in (-1, 0, 1)}
            for value in (*OTHERS, *sorted(n for n in named if n > 1)):
                if question.xreplace({**here, symbol: sympy.Integer(value)}) == sympy.false:
                    return {names[symbol]: value}
        return None

    def may_be_equal(self, a: Sequence[Dim], b: Sequence[Dim]) -> bool:
        """Whether two shapes are the same for the sizes of this trace."""
        values = [[evaluate(d if isinstance(d, int) else print_dim(d), self.hints) for d in shape]
                  for shape in (a, b)]  # fmt: skip
        return values[0] == values[1]

    def program(self) -> list[str]:
        """The traced calls as text over the IR's sizes, which tells two traces apart."""
        lines: list[str] = []
        for node in self.gm.graph.nodes:
            val = node.meta.get("val")
            if not isinstance(val, SymInt):
                args = map_arg((node.args, node.kwargs), self._argument)
                lines.append(f"{node.name} = {node.target}{args}")
        return lines

    def _argument(self, node: torch.fx.Node) -> str:
        val = node.meta.get("val")
        return self.show(val.node.expr) if isinstance(val, SymInt) else node.name

    def _names(self) -> dict[sympy.Symbol, sympy.Symbol]:
        return {s.node.expr: sympy.Symbol(name, integer=True) for name, s in self.symbols.items()}

    def _example(self, kind: Type) -> Any:
        if isinstance(kind, SizeType):
            return self._size(kind.expr)
        return torch.empty([self._size(d) for d in kind.shape], dtype=DTYPES[kind.dtype])

    def _size(self, size: Dim) -> int | SymInt:
        """A size as torch computes it from its own symbols."""
        if isinstance(size, int):
            return size
        for symbol in sorted(size.free_symbols, key=str):
            self._name(str(symbol))
        over, under = sympy.fraction(sympy.together(size))
        text = print_dim(over) if under == 1 else f"({print_dim(over)}) // ({print_dim(under)})"
        names = {"__builtins__": {}, "max": torch.sym_max, "min": torch.sym_min}
        return eval(text, names, dict(self.symbols))  # the text is arithmetic that print_dim wrote

    def _name(self, name: str) -> None:
        if name not in self.symbols:
            hint = self.sizes.get(name, EVEN * (2 * len(self.symbols) + 11))
            self.hints[name] = hint
            source = ConstantSource(f"size_{name}")
            created = self.env.create_symbol(hint, source, DimDynamic.DYNAMIC, None)
            self.symbols[name] = self.env.create_symintnode(created, hint=hint, source=source)

    def _attr(self, value: Attr) -> Any:
        match value:
            case sympy.Expr():
                return self._size(value)
            case tuple():
                return tuple(self._attr(v) for v in value)
            case _:
                return value


def _is_granted(question: Any) -> bool:
    """Whether it says no more than that some size is neither 0 nor 1."""
    match question:
        case sympy.Ne(args=(left, right)):
            return left in (0, 1) or right in (0, 1)
        case sympy.Ge(args=(_, least)) | sympy.Le(args=(least, _)):
            return least.is_Integer and least <= 2
        case sympy.Gt(args=(_, least)) | sympy.Lt(args=(least, _)):
            return least.is_Integer and least <= 1
        case _:
            return False


def branch_in(
    trace: Trace, function: Callable[..., Any], types: Sequence[Type], attrs: Mapping[str, Attr]
) -> str:
    """A question about sizes whose answer decides what is computed; empty where there is none.

    ATen asks questions of its own: whether a view divides, in which order strides go. So the
    function is traced again with sizes that give another answer: it may fail, as the plan will, or
    make the same calls.
    """
    tried: set[tuple[tuple[str, int], ...]] = set()
    for question in trace.questions():
        sizes = trace.other_answer(question)
        if sizes is None or (key := tuple(sizes.items())) in tried:
            continue
        tried.add(key)
        other = Trace(sizes)
        try:
            other.run(function, types, attrs)
        except (RuntimeError, ValueError, TypeError, AssertionError):
            continue
        if other.program() != trace.program():
            return trace.show(question)
    return ""


def _fx(
    function: Callable[..., Any], operands: Sequence[Any], attrs: Mapping[str, Any]
) -> GraphModule:
    """The traced function of all tensors, then all sizes that are no operands' shapes."""
    tensors = [x for x in operands if isinstance(x, Tensor)]
    sizes: list[SymInt] = []
    plan = [_place(x, sizes) for x in operands]
    named = {name: _place(x, sizes) for name, x in attrs.items()}

    def call(*given: Any) -> Any:
        rest, late = iter(given[: len(tensors)]), given[len(tensors) :]
        args = [next(rest) if isinstance(x, Tensor) else _filled(x, late) for x in plan]
        return function(*args, **{name: _filled(x, late) for name, x in named.items()})

    return make_fx(call, pre_dispatch=True, tracing_mode="symbolic")(*tensors, *sizes)


@dataclass(frozen=True, slots=True)
class _Late:
    """Stands for one of the sizes that are passed to the traced function."""

    index: int


def _place(x: Any, sizes: list[SymInt]) -> Any:
    match x:
        case SymInt():
            sizes.append(x)
            return _Late(len(sizes) - 1)
        case tuple():
            return tuple(_place(v, sizes) for v in x)
        case _:
            return x


def _filled(x: Any, sizes: Sequence[Any]) -> Any:
    match x:
        case _Late(index=index):
            return sizes[index]
        case tuple():
            return tuple(_filled(v, sizes) for v in x)
        case _:
            return x
