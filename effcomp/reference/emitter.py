"""Writes ATen calls as data: what the rows of the table are given to work with."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from effcomp.errors import LoweringError
from effcomp.ir import Graph, Op, SizeType, Tag, TensorType, Type, Value, print_dim, spec_of
from effcomp.ir.dims import Dim
from effcomp.ir.types import FLOATS, INTEGERS
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
from effcomp.plugins import REGISTRY
from effcomp.reference.traced import traced

# The ops that write into their first operand.
WRITERS = frozenset({"state.write", "state.index_put", "state.slice_put"})
ARGS = (BufferArg, SizeArg, ConstArg, TagArg, ListArg)


@dataclass(frozen=True, slots=True)
class Constant:
    """What a `tensor.constant` becomes: nothing, until an op needs it as a tensor."""

    value: bool | int | float
    dtype: str

    @property
    def scalar(self) -> bool | int | float:
        """The value in the Python type of its dtype, so that ATen promotes nothing."""
        if self.dtype == "bool":
            return bool(self.value)
        return int(self.value) if self.dtype in INTEGERS else float(self.value)


Place = BufferArg | Constant
Row = Callable[..., Place | Sequence[Place] | None]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    """Declare how an op reads in ATen.

    The function takes the emitter, then operands and attributes as the op's declaration names them,
    and returns what its results are; None where no call makes them.
    """

    def declare(function: Row) -> Row:
        assert name not in ROWS, f"{name} has two rows"
        ROWS[name] = function
        return function

    return declare


class Emitter:
    """The calls emitted so far, the op that each was emitted for, and where each value lives.

    With `snapshots`, values that a `state.*` op overwrites keep what they held for every reader:
    reading a value then never depends on the order of the ops.
    """

    def __init__(self, graph: Graph, *, snapshots: bool = False) -> None:
        self.calls: list[AtenCall] = []
        self.origins: list[Op | None] = []
        self.types: dict[int, Type] = {}
        self._places: dict[Value, Place] = {}
        self._tensors: dict[Constant, BufferArg] = {}
        self._written: dict[Value, BufferArg] = {}
        self._memory: dict[int, BufferArg] = {}  # what a snapshot was taken of
        self._snapshots = snapshots
        self._overwritten = {op.operands[0] for op in graph.walk() if op.name in WRITERS}
        self._count = len(graph.params)
        self._op: Op | None = None
        for i, param in enumerate(graph.params):
            self.define(param, BufferArg(i))
        for op in graph.ops:
            self.lower(op)

    # Values.

    def place(self, value: Value) -> Place:
        return self._places[value]

    def define(self, value: Value, place: Place) -> None:
        """Say where a value lives. Its type is kept for the executor to check."""
        self._places[value] = place
        if isinstance(place, Constant):
            return
        self.types.setdefault(place.id, value.type)
        if value in self._overwritten:
            self._written[value] = self._memory.get(place.id, place)
            self._places[value] = self._snapshot(self._written[value])

    def tensor(self, value: Value) -> BufferArg:
        """The value as a tensor; a constant is made one."""
        place = self._places[value]
        if isinstance(place, BufferArg):
            return place
        if place not in self._tensors:
            self._tensors[place] = self.full((), place.scalar, place.dtype)
        return self._tensors[place]

    def immediate(self, value: Value) -> BufferArg | ConstArg:
        """The value as ATen likes its scalars: a constant stays a Python number."""
        place = self._places[value]
        return ConstArg(place.scalar) if isinstance(place, Constant) else place

    def is_constant(self, value: Value) -> bool:
        return isinstance(self._places[value], Constant)

    def target(self, value: Value) -> BufferArg:
        """The memory that a write to this value goes to."""
        return self._written[value]

    def after_write(self, value: Value) -> BufferArg:
        """What the value's memory holds now."""
        return self._snapshot(self._written[value])

    def _snapshot(self, place: BufferArg) -> BufferArg:
        """A copy of what is there now, where later writes shall not be seen."""
        if not self._snapshots:
            return place
        copy = self.call("aten.clone.default", place)
        self._memory[copy.id] = place
        return copy

    # Calls.

    def call(self, target: str, *args: Any, **kwargs: Any) -> BufferArg:
        """Emit a call with one result."""
        return self.calls_many(target, args, kwargs, results=1)[0]

    def calls_many(
        self,
        target: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None = None,
        *,
        results: int,
        dropped: int = 0,
        kept: Sequence[bool] = (),
    ) -> tuple[BufferArg, ...]:
        """Emit a call with any number of results; the `dropped` last ones are not kept.

        `kept` says it for each thing returned, where they are not the last.
        """
        made = tuple(range(self._count, self._count + results))
        self._count += results
        ids = iter(made)
        named = [next(ids) if keep else None for keep in kept or [True] * results]
        self.origins.append(self._op)
        self.calls.append(
            AtenCall(
                target,
                tuple(map(self.arg, args)),
                (*named, *[None] * dropped),
                tuple((name, self.arg(value)) for name, value in (kwargs or {}).items()),
            )
        )
        return tuple(map(BufferArg, made))

    def arg(self, x: Any) -> Arg:
        """Anything that may stand in an argument list, as the plan writes it."""
        match x:
            case Value(type=SizeType(expr=expr)):
                return self.arg(expr)
            case Value():
                return self.tensor(x)
            case None | bool() | int() | float() | str():
                return ConstArg(x)
            case sympy.Expr():
                return SizeArg(print_dim(x))
            case Tag(kind=kind, value=value):
                return TagArg(kind, value)
            case complex():
                return TagArg("complex", str(x))
            case tuple() | list():
                return ListArg(tuple(map(self.arg, x)))
            case _:
                assert isinstance(x, ARGS), f"{x!r} cannot stand in an argument list"
                return x

    def full(self, shape: Sequence[Dim], value: Any, dtype: str) -> BufferArg:
        return self.call("aten.full.default", tuple(shape), value, **on_plan(dtype))

    def convert(self, x: Any, dtype: str) -> BufferArg:
        return self.call("aten._to_copy.default", x, dtype=Tag("dtype", dtype))

    def reshape(self, x: Any, shape: Sequence[Dim]) -> BufferArg:
        return self.call("aten.reshape.default", x, tuple(shape))

    # Ops.

    def lower(self, op: Op) -> None:
        """Emit one op. Raises LoweringError where the table has no row for it."""
        made = ROWS.get(op.name) or self._registered(op)
        attrs = {**spec_of(op).defaults, **op.attrs}
        missing = [k for k, v in attrs.items() if v is inspect.Parameter.empty]
        assert not missing, f"{op.name} lacks attribute {missing[0]!r}"
        if op.body is not None:
            attrs["body"] = op.body
        around, self._op = self._op, op
        found = made(self, *op.operands, **attrs)
        self._op = around
        if found is None:
            return
        places = found if isinstance(found, Sequence) else (found,)
        for result, place in zip(op.results, places, strict=True):
            self.define(result, place)

    def _registered(self, op: Op) -> Row:
        """The row of a registered op: what its reference calls."""
        custom = REGISTRY.ops.get(op.name)
        if custom is None or custom.reference is None:
            types = ", ".join(str(v.type) for v in op.operands)
            where = f" at {op.loc}" if op.loc else ""
            missing = "has no row in the table of ATen calls"
            if custom is not None:
                missing = f"of {custom.origin} has no `reference=`, so nothing can run it here"
            raise LoweringError(f"{op.name}({types}) {missing}{where}")

        def made(b: Emitter, *operands: Value, **attrs: Any) -> tuple[Place, ...]:
            return b.run(traced(custom, [v.type for v in operands], attrs), operands)

        return made

    def run(self, region: RegionKernel, operands: Sequence[Value]) -> tuple[Place, ...]:
        """Emit a line of calls on these operands; returns its outputs."""
        local: dict[int, Arg] = {
            i: self.tensor(v) for i, v in enumerate(operands) if isinstance(v.type, TensorType)
        }
        for call in region.calls:
            args = [_bound(a, local) for a in call.args]
            kwargs = {name: _bound(a, local) for name, a in call.kwargs}
            made = self.calls_many(call.target, args, kwargs, results=len(call.results))
            local.update(zip((r for r in call.results if r is not None), made, strict=True))
        places = [local[r] for r in region.outputs]
        return tuple(p for p in places if isinstance(p, BufferArg))

    def inline(self, body: Graph, operands: Sequence[Value]) -> tuple[Place, ...]:
        """Emit a body where it stands; returns its outputs."""
        for param, operand in zip(body.params, operands, strict=True):
            self._places[param] = self._places[operand]
        for op in body.ops:
            self.lower(op)
        return tuple(self._places[v] for v in body.outputs)


def _bound(arg: Arg, local: Mapping[int, Arg]) -> Arg:
    match arg:
        case BufferArg(id=i):
            return local[i]
        case ListArg(items=items):
            return ListArg(tuple(_bound(item, local) for item in items))
        case _:
            return arg


def on_plan(dtype: str) -> dict[str, Tag]:
    """Keywords of a call that makes a tensor out of nothing."""
    return {"dtype": Tag("dtype", dtype), "device": Tag("device", "plan")}


def wide(dtype: str) -> str:
    """The dtype that arithmetic on `dtype` is carried out in."""
    return "f32" if dtype in FLOATS - {"f64"} else dtype
