"""The reference of a registered op: a function on torch tensors, traced to ATen calls as data.

It is traced before dispatch, so that `linear` and attention stay whole, no device decides anything,
and a view is a reshape that takes tensors as they lie.
"""

import functools
import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import SymInt, Tensor
from torch.fx import Node

from effcomp.dtypes import DTYPE_NAMES
from effcomp.errors import EffcompError, LoweringError
from effcomp.ir import Attr, TensorType, Trait, Type, print_dim
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
from effcomp.plugins import REGISTRY, CustomOp
from effcomp.reference.tracing import Trace, branch_in

# In place of operators that look at strides: what the plan holds may lie otherwise.
STRIDE_FREE = {
    "aten.view.default": "aten.reshape.default",
    "aten._unsafe_view.default": "aten.reshape.default",
}
# What gives its operand, to whom gradients and constants of Python are nothing special.
SAME = frozenset(
    f"aten.{name}.default"
    for name in ("alias", "detach", "detach_", "lift_fresh", "lift_fresh_copy")
)


def traced(op: CustomOp, types: Sequence[Type], attrs: Mapping[str, Attr]) -> RegionKernel:
    """The calls that the op's reference makes for operands of these types. Raises LoweringError.

    Local ids 0..len(types)-1 are the operands.
    """
    key = (op.spec.name, tuple(types), repr(sorted(attrs.items())))
    return _traced(key, REGISTRY.version, _Call(op, tuple(types), attrs))


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
    trace: Trace = field(default_factory=Trace)
    places: dict[Node, Any] = field(default_factory=dict)
    calls: list[AtenCall] = field(default_factory=list)
    count: int = 0

    def error(self, what: str) -> LoweringError:
        return LoweringError(f"the reference of {self.op.spec.name} ({self.op.origin}) {what}")

    def run(self, types: Sequence[Type], attrs: Mapping[str, Attr]) -> RegionKernel:
        reference = self.op.reference
        assert reference is not None, "the caller looks"
        trace = self.trace
        trace.run(reference, types, attrs)
        if question := branch_in(trace, reference, types, attrs):
            raise self.error(
                f"asks whether {question}, which a plan for every size cannot; write it without, "
                "or compile with static shapes"
            )
        self.count = len(types)
        outputs = self._convert([i for i, t in enumerate(types) if isinstance(t, TensorType)])
        ids = tuple(self._output(value, i) for i, value in enumerate(outputs))
        self._check_types(types, attrs)
        name = self.op.spec.name.replace(".", "_")
        return RegionKernel(name, tuple(self.calls), len(types), ids, digest="")

    def _convert(self, tensors: Sequence[int]) -> list[Any]:
        inputs = iter(tensors)
        outputs: Any = ()
        for node in self.trace.gm.graph.nodes:
            val = node.meta.get("val")
            match node.op:
                case "placeholder":
                    if isinstance(val, Tensor):
                        self.places[node] = BufferArg(next(inputs))
                case "get_attr":
                    self.places[node] = self._constant(node)
                case "call_function" if not isinstance(val, SymInt):
                    self._call(node)
                case "output":
                    (outputs,) = node.args
                case _:
                    pass
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _constant(self, node: Node) -> BufferArg:
        tensor = operator.attrgetter(str(node.target))(self.trace.gm)
        if not isinstance(tensor, Tensor) or tensor.ndim > 0:
            raise self.error("holds a tensor of its own; pass it as an operand")
        value = (
            TagArg("complex", str(tensor.item()))
            if tensor.is_complex()
            else ConstArg(tensor.item())
        )
        kwargs = (
            ("dtype", TagArg("dtype", DTYPE_NAMES[tensor.dtype])),
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
        if name in SAME:
            (copied,) = node.args
            assert isinstance(copied, Node), "what stays the same"
            self.places[node] = self.places[copied]
            return
        self._check_operator(target, name)
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
                    return SizeArg(print_dim(self.trace.dim(val)))
                if x in self.places:
                    return self.places[x]
                raise self.error(f"computes with {val!r}: neither a tensor nor a size")
            case list() | tuple():
                return ListArg(tuple(map(self._arg, x)))
            case torch.dtype():
                return TagArg("dtype", DTYPE_NAMES[x])
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

    def _check_types(self, types: Sequence[Type], attrs: Mapping[str, Attr]) -> None:
        """The declaration and the reference agree about what the results are."""
        found = self.op.spec.infer(*types, **{**self.op.spec.defaults, **attrs})
        declared = list(found) if isinstance(found, Sequence) else [found]
        node = next(n for n in self.trace.gm.graph.nodes if n.op == "output")
        returned = node.args[0] if isinstance(node.args[0], (tuple, list)) else (node.args[0],)
        if len(declared) != len(returned):
            raise self.error(f"returns {len(returned)} results, the op declares {len(declared)}")
        for wanted, output in zip(declared, returned, strict=True):
            val = output.meta["val"]
            given = TensorType(DTYPE_NAMES[val.dtype], tuple(map(self.trace.dim, val.shape)))
            if (
                not isinstance(wanted, TensorType)
                or wanted.dtype != given.dtype
                or not self.trace.may_be_equal(wanted.shape, given.shape)
            ):
                raise self.error(f"returns {given} where the op declares {wanted}")
