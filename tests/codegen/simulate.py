"""Runs a plan step by step with every buffer in memory of its own, poisoned while it is dead.

What a plan reads outside the lifetimes it states comes out as NaN (or a huge number), whatever a
real arena would have held there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from effcomp.dtypes import DTYPES
from effcomp.plan.expressions import evaluate
from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    CallPlace,
    CallStep,
    ConstantPlace,
    InputPlace,
    Launch,
    OutputPlace,
    Plan,
    RunRegion,
    TensorSpec,
    ViewPlace,
)
from effcomp.reference.executor import argument, operator_named, run_call

Kernels = Mapping[str, Callable[[Sequence[Any], Mapping[str, int]], None]]
CPU = torch.device("cpu")


def simulate(plan: Plan, args: Sequence[Any], kernels: Kernels | None = None) -> list[Any]:
    """The plan's outputs. `kernels` runs launches: functions of their arguments, by digest."""
    return _Simulation(plan, args, kernels or {}).run()


class _Simulation:
    def __init__(self, plan: Plan, args: Sequence[Any], kernels: Kernels) -> None:
        self.plan, self.args, self.kernels = plan, args, kernels
        self.sizes = {
            s.symbol: args[s.port] if s.dim < 0 else args[s.port].shape[s.dim] for s in plan.symbols
        }
        for port, arg in zip(plan.ports, args, strict=True):
            if port.spec is not None:
                self._check(port.spec, arg, f"port {port.name}")
        self.constants: list[Any] = []
        if plan.prologue is not None:
            inner = [args[i] for i in plan.prologue_ports]
            self.constants = simulate(plan.prologue, inner, kernels)
        self.memory: dict[int, Tensor] = {}
        self.regions = {k.digest: k for k in plan.kernels if k.kind == "region"}

    def run(self) -> list[Any]:
        for i in range(len(self.plan.buffers)):
            self._allocate(i)
        assert len(self.plan.costs) == len(self.plan.steps)
        for number, step in enumerate(self.plan.steps):
            self._poison(number)
            match step:
                case Launch():
                    self.kernels[step.kernel]([self._arg(a) for a in step.args], self.sizes)
                case RunRegion():
                    self._run_region(step)
                case CallStep():
                    self._run_call(step)
        self._poison(len(self.plan.steps))
        return [self._returned(o.buffer, o.size) for o in self.plan.outputs]

    def _returned(self, buffer: int | None, size: Any) -> Any:
        if buffer is not None:
            root = self._root(buffer)
            place = self.plan.buffers[root].place
            assert isinstance(place, InputPlace | OutputPlace), f"output in {place}"
            return self.tensor(buffer)
        return None if size is None else evaluate(size, self.sizes)

    # Buffers.

    def _allocate(self, i: int) -> None:
        buffer = self.plan.buffers[i]
        match buffer.place:
            case InputPlace(index=index):
                self.memory[i] = self.args[index]
            case ConstantPlace(index=index):
                self.memory[i] = self.constants[index]
                self._check(buffer.spec, self.memory[i], f"constant {index}")
            case ArenaPlace() | OutputPlace():
                self.memory[i] = self._empty(buffer.spec)
                poison(self.memory[i])
            case _:
                pass

    def _empty(self, spec: TensorSpec) -> Tensor:
        shape, strides = self._ints(spec.shape), self._ints(spec.strides)
        return torch.empty_strided(shape, strides, dtype=DTYPES[spec.dtype])

    def _ints(self, exprs: Sequence[Any]) -> tuple[int, ...]:
        return tuple(evaluate(e, self.sizes) for e in exprs)

    def _check(self, spec: TensorSpec, tensor: Tensor, what: str) -> None:
        assert tensor.dtype == DTYPES[spec.dtype], what
        assert tuple(tensor.shape) == self._ints(spec.shape), what
        strides = zip(tensor.shape, tensor.stride(), self._ints(spec.strides), strict=True)
        assert tensor.numel() == 0 or all(n == 1 or a == b for n, a, b in strides), what

    def tensor(self, i: int) -> Tensor:
        buffer = self.plan.buffers[i]
        if not isinstance(buffer.place, ViewPlace):
            return self.memory[i]
        base = self.tensor(buffer.place.of)
        offset = base.storage_offset() + evaluate(buffer.place.offset, self.sizes)
        shape, strides = self._ints(buffer.spec.shape), self._ints(buffer.spec.strides)
        return base.as_strided(shape, strides, offset)

    def _root(self, i: int) -> int:
        while isinstance(place := self.plan.buffers[i].place, ViewPlace):
            i = place.of
        return i

    def _poison(self, step: int) -> None:
        """Spoil what the plan says is dead by now."""
        for i, buffer in enumerate(self.plan.buffers):
            match buffer.place:
                case ArenaPlace(first=first, last=last):
                    assert 0 <= first <= last, f"buffer {i} has no lifetime"
                    if step == first or step == last + 1:
                        poison(self.memory[i])
                case CallPlace(last=last):
                    assert last >= 0, f"buffer {i} has no lifetime"
                    if step == last + 1:
                        self.memory.pop(i, None)
                case _:
                    pass

    # Steps.

    def _arg(self, arg: Any) -> Any:
        return argument(arg, _Lookup(self), self.sizes, CPU)

    def _run_region(self, step: RunRegion) -> None:
        kernel = self.regions[step.kernel]
        assert len(step.inputs) == kernel.inputs
        values: dict[int, Any] = {i: self.tensor(b) for i, b in enumerate(step.inputs)}
        for call in kernel.calls:
            values |= run_call(call, values, self.sizes, CPU)
        made = [values[o].contiguous().clone() for o in kernel.outputs]
        for buffer, tensor in zip(step.outputs, made, strict=True):
            self._store(buffer, tensor)

    def _run_call(self, step: CallStep) -> None:
        call = step.call
        if step.out:
            self._run_out(step)
            return
        numbered = AtenCall(call.target, call.args, tuple(range(len(call.results))), call.kwargs)
        found = run_call(numbered, _Lookup(self), self.sizes, CPU)
        for position, buffer in enumerate(call.results):
            if buffer is not None:
                self._store(buffer, found[position])

    def _run_out(self, step: CallStep) -> None:
        operator = operator_named(step.out)
        args = [self._arg(a) for a in step.call.args]
        kwargs = {name: self._arg(a) for name, a in step.call.kwargs}
        names = [a.name for a in operator._schema.arguments if a.alias_info is not None]
        outs = [self.tensor(r) for r in step.call.results if r is not None]
        before = [t.data_ptr() for t in outs]
        operator(*args, **kwargs, **dict(zip(names, outs, strict=True)))
        assert [t.data_ptr() for t in outs] == before, "an out= tensor was reallocated"

    def _store(self, buffer: int, tensor: Tensor) -> None:
        place, spec = self.plan.buffers[buffer].place, self.plan.buffers[buffer].spec
        if not isinstance(place, CallPlace):
            self.tensor(buffer).copy_(tensor)
        elif not spec.dtype:
            self.memory[buffer] = tensor
        else:
            stated = self._empty(spec)
            assert stated.dtype == tensor.dtype
            assert stated.shape == tensor.shape
            same = stated.stride() == tensor.stride()
            self.memory[buffer] = tensor if same else stated.copy_(tensor)


class _Lookup(Mapping[int, Any]):
    def __init__(self, simulation: _Simulation) -> None:
        self.simulation = simulation

    def __getitem__(self, i: int) -> Tensor:
        return self.simulation.tensor(i)

    def __iter__(self) -> Any:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self.simulation.plan.buffers)


def poison(tensor: Tensor) -> None:
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        tensor.fill_(float("nan"))
    elif tensor.dtype is not torch.bool:
        tensor.fill_(torch.iinfo(tensor.dtype).max)
