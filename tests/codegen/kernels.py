"""Stands in for the Triton emitter: "kernels" that evaluate a group's body by the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.ir import Op, TensorType, print_graph
from effcomp.plan.schema import KernelParam, TritonKernel
from effcomp.reference import region_of
from effcomp.reference.executor import run_call
from effcomp.target import Target

Run = Callable[[Sequence[Any], Mapping[str, int]], None]


@dataclass
class FakeEmitter:
    """Makes a kernel of every group but those that `refuses` names; `kernels` runs them.

    A kernel computes all of its results before it stores any, and checks that its pointers have
    the strides that the group's values state.
    """

    refuses: Callable[[Op], bool] = lambda op: False
    kernels: dict[str, Run] = field(default_factory=dict)
    calls: int = 0

    def __call__(self, op: Op, target: Target) -> KernelLaunch | Refusal:
        assert op.body is not None
        self.calls += 1
        if self.refuses(op):
            return Refusal("the test says so")
        digest = f"{print_graph(op.body)} {[v.strides for v in (*op.operands, *op.results)]}"
        values = (*op.operands, *op.results)
        params = tuple(KernelParam(f"p{i}", f"*{v.dtype}") for i, v in enumerate(values))
        kernel = TritonKernel(op.body.name, "", params, (), digest)
        self.kernels[digest] = lambda tensors, sizes: _run(op, tensors, sizes)
        return KernelLaunch(kernel, values, (1, 1, 1))


def _run(op: Op, tensors: Sequence[torch.Tensor], sizes: Mapping[str, int]) -> None:
    assert op.body is not None
    for value, tensor in zip((*op.operands, *op.results), tensors, strict=True):
        assert isinstance(value.type, TensorType)
        if value.strides is None:
            assert tensor.is_contiguous(), f"%{value.hint} is not row-major"
        else:
            ints = zip(value.strides, tensor.stride(), value.shape, strict=True)
            assert all(a == b for a, b, n in ints if isinstance(a, int) and n != 1)
    count = len(op.operands)
    region = region_of(op.body)
    values: dict[int, Any] = dict(enumerate(tensors[:count]))
    for call in region.calls:
        values |= run_call(call, values, sizes, torch.device("cpu"))
    made = [values[o].clone() for o in region.outputs]
    for result, tensor in zip(tensors[count:], made, strict=True):
        result.copy_(tensor)
