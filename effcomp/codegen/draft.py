"""A plan being written: buffers, steps and kernels in the order lowering finds them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from effcomp.codegen.aliasing import may_alias
from effcomp.codegen.layout import strides_of
from effcomp.ir import Dim, Op, SizeType, Value, print_dim
from effcomp.ir.cost import op_bytes, op_flops
from effcomp.ir.dims import dim
from effcomp.plan.schema import (
    ArenaPlace,
    Arg,
    AtenCall,
    Buffer,
    BufferArg,
    CallPlace,
    CallStep,
    Cost,
    Expr,
    Kernel,
    ListArg,
    Place,
    SizeArg,
    Step,
    TensorSpec,
    ViewPlace,
)

UNKNOWN = TensorSpec("", (), ())
"""The spec of a tensor between the calls of one op."""
PENDING = -1
"""A step number that is known only once every step is."""


def expr(size: Dim) -> Expr:
    """A size as the plan writes it."""
    return size if isinstance(size, int) else print_dim(size)


def tensor_spec(dtype: str, shape: Sequence[Dim], strides: Sequence[Dim]) -> TensorSpec:
    return TensorSpec(dtype, tuple(map(expr, shape)), tuple(map(expr, strides)))


def spec_of_value(value: Value) -> TensorSpec:
    return tensor_spec(value.dtype, value.shape, strides_of(value))


@dataclass(slots=True)
class Draft:
    """What has been written so far.

    `at` is the buffer of each tensor value; `shown` are the views that nothing has read yet, as
    offsets into another value's memory. `shares` maps the buffer of a call's result to buffers
    whose memory it may lie in; `takeovers` are (step, result, operand): buffers that may be one.
    `op` is the position of the op being lowered, which every step and its cost come from.
    """

    at: dict[Value, int] = field(default_factory=dict[Value, int])
    shown: dict[Value, tuple[Value, Dim]] = field(default_factory=dict[Value, tuple[Value, Dim]])
    buffers: list[Buffer] = field(default_factory=list[Buffer])
    steps: list[Step] = field(default_factory=list[Step])
    costs: list[Cost] = field(default_factory=list[Cost])
    kernels: dict[str, Kernel] = field(default_factory=dict[str, Kernel])
    notes: list[str] = field(default_factory=list[str])
    shares: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    views: dict[tuple[int, Expr, TensorSpec], int] = field(
        default_factory=dict[tuple[int, Expr, TensorSpec], int]
    )
    takeovers: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    op: int = -1

    def add(self, spec: TensorSpec, place: Place, name: str = "") -> int:
        self.buffers.append(Buffer(spec, place, name))
        return len(self.buffers) - 1

    def place(self, value: Value, place: Place) -> int:
        """The buffer of a value: the one it has been given, or a new one at `place`."""
        if value not in self.at:
            self.at[value] = self.add(spec_of_value(value), place, value.hint)
        return self.at[value]

    def arena(self, value: Value) -> int:
        return self.place(value, ArenaPlace(PENDING, PENDING))

    def returned(self, value: Value) -> int:
        """The buffer for what a call returns."""
        return self.place(value, CallPlace(PENDING))

    def show(self, value: Value, base: Value, offset: Dim = 0) -> None:
        """Let a value be the memory of `base`; its buffer is made when something reads it."""
        root, start = (base, 0) if base in self.at else self.shown[base]
        self.shown[value] = root, dim(start + offset)

    def buffer(self, value: Value) -> int:
        """The buffer that holds a value."""
        if value not in self.at:
            self.at[value] = self.view(value, value.shape, strides_of(value))
        return self.at[value]

    def view(
        self, value: Value, shape: Sequence[Dim], strides: Sequence[Dim], offset: Dim = 0
    ) -> int:
        """A buffer that shows the memory of `value` under another shape; equal views are one."""
        base, start = (value, 0) if value in self.at else self.shown[value]
        of, offset = self.at[base], dim(start + offset)
        spec = tensor_spec(value.dtype, shape, strides)
        if offset == 0 and spec == self.buffers[of].spec:
            return of
        key = (of, expr(offset), spec)
        if key not in self.views:
            self.views[key] = self.add(spec, ViewPlace(of, expr(offset)), value.hint)
        return self.views[key]

    def arg(self, value: Value) -> Arg:
        """An operand as a call's argument."""
        if isinstance(value.type, SizeType):
            return SizeArg(expr(value.type.expr))
        return BufferArg(self.buffer(value))

    def step(self, step: Step, op: Op | None = None) -> None:
        """Append a step; `op` where the step stands for that op's whole cost."""
        self.steps.append(step)
        cost = Cost(step.label, (), 0, 0) if op is None else cost_of(step.label, op)
        self.costs.append(replace(cost, op=self.op))

    def call(self, call: AtenCall, *, out: str = "", label: str, op: Op | None = None) -> None:
        if may_alias(call.target):
            sources = buffers_in(call.args)
            for r in call.results:
                if r is not None:
                    self.shares[r] = tuple(s for s in sources if s != r)
        self.step(CallStep(call, out, label), op)

    def copy(self, source: int, target: int, *, label: str, op: Op | None = None) -> None:
        """Overwrite one buffer with another, by a call."""
        args = (BufferArg(target), BufferArg(source))
        self.call(AtenCall("aten.copy_.default", args, (None,)), label=label, op=op)

    def add_kernel(self, kernel: Kernel) -> str:
        return self.kernels.setdefault(kernel.digest, kernel).digest

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def buffers_in(args: Iterable[Arg]) -> list[int]:
    """The buffers that arguments name, lists looked into."""
    found: list[int] = []
    for arg in args:
        match arg:
            case BufferArg(id=buffer):
                found.append(buffer)
            case ListArg(items=items):
                found += buffers_in(items)
            case _:
                pass
    return found


def cost_of(label: str, op: Op) -> Cost:
    """What an op moves and computes, for the step that runs it."""
    inner = op.body.ops if op.body is not None else (op,)
    loc = op.loc or next((i.loc for i in inner if i.loc), "")
    scope = op.scope or next((i.scope for i in inner if i.scope), "")
    names = tuple(i.name for i in inner)
    return Cost(label, names, expr(op_bytes(op)), expr(op_flops(op)), loc, scope)
