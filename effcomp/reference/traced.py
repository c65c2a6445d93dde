"""The reference of a registered op: a function on torch tensors, traced to ATen calls as data.

It is traced before dispatch, so that `linear` and attention stay whole, no device decides anything,
and a view is a reshape that takes tensors as they lie.
"""

import functools
import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import SymInt, Tensor
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._sympy.printers import PythonPrinter

from effcomp.dtypes import DTYPES
from effcomp.errors import EffcompError, LoweringError
from effcomp.ir import Attr, Dim, SizeType, TensorType, Trait, Type, parse_dim, print_dim
from effcomp.ir.dims import same_shape
from effcomp.plan.schema import (
    Arg,
    AtenCall,
    BufferArg,
    ConstArg,
    ListArg,
    RegionKernel,
    SizeArg,
    TagArg,
)
from effcomp.plugins import CustomOp, registry

NAMES = {dtype: name for name, dtype in DTYPES.items()}
# In place of operators that look at strides: what the plan holds may lie otherwise.
STRIDE_FREE = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}
# Sizes while tracing: divisible by what programs divide by, and none like another.
HINT = 2 * 2 * 2 * 2 * 3 * 5 * 7


def traced(op: CustomOp, types: Sequence[Type], attrs: Mapping[str, Attr]) -> RegionKernel:
    """The calls that the op's reference makes for operands of these types. Raises LoweringError.

    Local ids 0..len(types)-1 are the operands.
    """
    key = (op.spec.name, tuple(types), repr(sorted(attrs.items())))
    return _traced(key, registry.version, _Call(op, tuple(types), attrs))


@dataclass(frozen=True, slots=True)
class _Call:
    """What is traced; the cache goes by the key beside it."""

    op: CustomOp
    types: tuple[Type, ...]
    attrs: Mapping[str, Attr]

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call)


@functools.lru_cache(maxsize=4096)
def _traced(key: Hashable, version: int, call: _Call) -> RegionKernel:
    del key, version
    tracer = _Tracer(call.op)
    try:
        return tracer.run(call.types, call.attrs)
    except EffcompError:
        raise
    except Exception as error:
        raise tracer.error(f"cannot be traced: {type(error).__name__}: {error}") from error


@dataclass(slots=True)
class _Tracer:
    op: CustomOp
    env: ShapeEnv = field(default_factory=ShapeEnv)
    symbols: dict[str, Any] = field(default_factory=dict)
    places: dict[Node, Any] = field(default_factory=dict)
    calls: list[AtenCall] = field(default_factory=list)
    count: int = 0

    def error(self, what: str) -> LoweringError:
        return LoweringError(f"the reference of {self.op.spec.name} ({self.op.origin}) {what}")

    def run(self, types: Sequence[Type], attrs: Mapping[str, Attr]) -> RegionKernel:
        with FakeTensorMode(shape_env=self.env), torch.no_grad():
            operands = [self._example(t) for t in types]
            named = {name: self._attr(value) for name, value in attrs.items()}
            gm = self._fx(operands, named)
        self._check_guards()
        self.count = len(types)
        outputs = self._convert(gm, [i for i, t in enumerate(types) if isinstance(t, TensorType)])
        ids = tuple(self._output(value, i) for i, value in enumerate(outputs))
        self._check_types(gm, types, attrs)
        name = self.op.spec.name.replace(".", "_")
        return RegionKernel(name, tuple(self.calls), len(types), ids, digest="")

    # What goes in.

    def _example(self, kind: Type) -> Any:
        if isinstance(kind, SizeType):
            return self._size(kind.expr)
        return torch.empty([self._size(d) for d in kind.shape], dtype=DTYPES[kind.dtype])

    def _size(self, size: Dim) -> int | SymInt:
        """A size as torch computes it from its own symbols."""
        if isinstance(size, int):
            return size
        for symbol in sorted(size.free_symbols, key=str):
            name = str(symbol)
            if name not in self.symbols:
                hint = HINT * (2 * len(self.symbols) + 11)
                source = ConstantSource(f"size_{name}")
                created = self.env.create_symbol(hint, source, DimDynamic.DYNAMIC, None)
                self.symbols[name] = self.env.create_symintnode(created, hint=hint, source=source)
        over, under = sympy.fraction(sympy.together(size))
        text = print_dim(over) if under == 1 else f"({print_dim(over)}) // ({print_dim(under)})"
        names = {"__builtins__": {}, "max": torch.sym_max, "min": torch.sym_min}
        return eval(text, names, dict(self.symbols))  # the text is arithmetic that print_dim wrote

    def _attr(self, value: Attr) -> Any:
        match value:
            case sympy.Expr():
                return self._size(value)
            case tuple():
                return tuple(self._attr(v) for v in value)
            case _:
                return value

    def _fx(self, operands: Sequence[Any], attrs: Mapping[str, Any]) -> GraphModule:
        """The traced function of all tensors, then all sizes that are no operands' shapes."""
        reference = self.op.reference
        assert reference is not None, "the caller looks"
        tensors = [x for x in operands if isinstance(x, Tensor)]
        sizes: list[SymInt] = []
        plan = [_place(x, sizes) for x in operands]
        named = {name: _place(x, sizes) for name, x in attrs.items()}

        def call(*given: Any) -> Any:
            rest, late = iter(given[: len(tensors)]), given[len(tensors) :]
            args = [next(rest) if isinstance(x, Tensor) else _filled(x, late) for x in plan]
            return reference(*args, **{name: _filled(x, late) for name, x in named.items()})

        return make_fx(call, pre_dispatch=True, tracing_mode="symbolic")(*tensors, *sizes)

    def _check_guards(self) -> None:
        """Refuse a reference whose calls depend on a size; that a size divides is ATen's to check.

        A plan is made once for all sizes.
        """
        for guard in self.env.guards:
            expr = guard.expr
            divides = isinstance(expr, sympy.Eq) and "Mod(" in str(expr) and 0 in expr.args
            if not divides and expr not in (sympy.true, True):
                shown = PythonPrinter().doprint(expr.xreplace(self._names()))
                raise self.error(
                    f"asks whether {shown}, which a plan for every size cannot; write it without, "
                    "or compile with static shapes"
                )

    # What comes out.

    def _convert(self, gm: GraphModule, tensors: Sequence[int]) -> list[Any]:
        inputs = iter(tensors)
        outputs: Any = ()
        for node in gm.graph.nodes:
            val = node.meta.get("val")
            match node.op:
                case "placeholder":
                    if isinstance(val, Tensor):
                        self.places[node] = BufferArg(next(inputs))
                case "get_attr":
                    self.places[node] = self._constant(gm, node)
                case "call_function" if not isinstance(val, SymInt):
                    self._call(node)
                case "output":
                    (outputs,) = node.args
                case _:
                    pass
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _constant(self, gm: GraphModule, node: Node) -> BufferArg:
        tensor = operator.attrgetter(str(node.target))(gm)
        if not isinstance(tensor, Tensor) or tensor.ndim > 0:
            raise self.error("holds a tensor of its own; pass it as an operand")
        value = (
            TagArg("complex", str(tensor.item()))
            if tensor.is_complex()
            else ConstArg(tensor.item())
        )
        kwargs = (
            ("dtype", TagArg("dtype", NAMES[tensor.dtype])),
            ("device", TagArg("device", "plan")),
        )
        return self._add("aten.full.default", (ListArg(()), value), kwargs, 1)[0]

    def _call(self, node: Node) -> None:
        target = node.target
        if target is operator.getitem:
            source, index = node.args
            assert isinstance(source, Node), "an item of a call's results"
            self.places[node] = self.places[source][index]
            return
        if target is torch._C._set_grad_enabled:
            return
        if not isinstance(target, torch._ops.OpOverload):
            raise self.error(f"calls {target}, which is no operator of torch")
        name = STRIDE_FREE.get(str(target), str(target))
        self._check_operator(target, name)
        if name == "aten.lift_fresh_copy.default":
            (copied,) = node.args
            assert isinstance(copied, Node), "the constant that is copied"
            self.places[node] = self.places[copied]
            return
        args = tuple(map(self._arg, node.args))
        kwargs = tuple((k, self._arg(v)) for k, v in node.kwargs.items())
        val = node.meta.get("val")
        many = isinstance(val, (tuple, list))
        made = self._add(name, args, kwargs, len(val) if many else 1)
        self.places[node] = made if many else made[0]

    def _check_operator(self, target: torch._ops.OpOverload, name: str) -> None:
        if target._schema.is_mutable:
            raise self.error(f"writes in place ({name}); a reference is functional")
        if "as_strided" in name:
            raise self.error(f"calls {name}, which depends on how tensors lie in memory")
        random = torch.Tag.nondeterministic_seeded in target.tags
        if random and Trait.PURE in self.op.spec.traits:
            raise self.error(f"draws random numbers ({name}): declare the op without Trait.PURE")

    def _add(
        self, target: str, args: tuple[Arg, ...], kwargs: tuple[tuple[str, Arg], ...], results: int
    ) -> tuple[BufferArg, ...]:
        made = tuple(range(self.count, self.count + results))
        self.count += results
        self.calls.append(AtenCall(target, args, made, kwargs))
        return tuple(map(BufferArg, made))

    def _arg(self, x: Any) -> Arg:
        match x:
            case Node():
                val = x.meta.get("val")
                if isinstance(val, SymInt):
                    return SizeArg(print_dim(self._dim(val)))
                if x in self.places:
                    return self.places[x]
                raise self.error(f"computes with {val!r}: neither a tensor nor a size")
            case list() | tuple():
                return ListArg(tuple(map(self._arg, x)))
            case torch.dtype():
                return TagArg("dtype", NAMES[x])
            case torch.device():
                return TagArg("device", "plan")
            case torch.layout():
                return TagArg("layout", str(x).removeprefix("torch."))
            case torch.memory_format():
                return TagArg("memory_format", str(x).removeprefix("torch."))
            case complex():
                return TagArg("complex", str(x))
            case None | bool() | int() | float() | str():
                return ConstArg(x)
            case _:
                raise self.error(f"passes {x!r} to an operator, which a plan cannot hold")

    def _output(self, value: Any, index: int) -> int:
        place = self.places.get(value) if isinstance(value, Node) else None
        if not isinstance(place, BufferArg):
            raise self.error(f"returns {value!r} as result {index}, which is no tensor")
        return place.id

    def _check_types(
        self, gm: GraphModule, types: Sequence[Type], attrs: Mapping[str, Attr]
    ) -> None:
        """The declaration and the reference agree about what the results are."""
        found = self.op.spec.infer(*types, **{**self.op.spec.defaults, **attrs})
        declared = list(found) if isinstance(found, Sequence) else [found]
        node = next(n for n in gm.graph.nodes if n.op == "output")
        returned = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
        if len(declared) != len(returned):
            raise self.error(f"returns {len(returned)} results, the op declares {len(declared)}")
        for wanted, output in zip(declared, returned, strict=True):
            val = output.meta["val"]
            given = TensorType(NAMES[val.dtype], tuple(map(self._dim, val.shape)))
            if (
                not isinstance(wanted, TensorType)
                or wanted.dtype != given.dtype
                or not same_shape(wanted.shape, given.shape)
            ):
                raise self.error(f"returns {given} where the op declares {wanted}")

    # Sizes.

    def _names(self) -> dict[sympy.Symbol, sympy.Symbol]:
        return {s.node.expr: sympy.Symbol(name, integer=True) for name, s in self.symbols.items()}

    def _dim(self, size: int | SymInt) -> Dim:
        """A size of torch's as the IR writes it."""
        if not isinstance(size, SymInt):
            return int(size)
        text = PythonPrinter().doprint(size.node.expr.xreplace(self._names()))
        return parse_dim(text)


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
