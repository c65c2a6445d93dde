"""`check_op`: an op of one's own computes the same by its reference and by its kernel."""

from collections.abc import Mapping, Sequence

import torch

from effcomp.codegen import lower_graph
from effcomp.ir import Attr, Graph, OpSpec, Value
from effcomp.ir.type_text import parse_type
from effcomp.plan.schema import Launch, Plan
from effcomp.reference import evaluate, region_of
from effcomp.runtime import load
from effcomp.target import TARGETS
from effcomp.testing.inputs import drawn_arguments
from effcomp.testing.numbers import assert_alike, narrowest_of

__all__ = ["check_op"]


def check_op(
    spec: OpSpec,
    *operands: str,
    target: str = "cuda:90",
    kernel: bool = True,
    sizes: Mapping[str, int] | None = None,
    **attrs: Attr,
) -> Plan:
    """Fail unless an op's plans give what its reference gives; returns the plan for `target`.

    `operands` are types such as "f32[s0, 8]". The plan for a GPU runs in Triton's interpreter
    where torch sees none (not in bf16, which that computes wrongly); with `kernel` it has to hold
    a launch.
    """
    __tracebackhide__ = True
    params = tuple(Value(parse_type(text), f"x{i}") for i, text in enumerate(operands))
    op = spec.build(*params, body=None, loc="", scope="", **attrs)
    graph = Graph("op", params, (op,), op.results)
    plan = lower_graph(graph, TARGETS[target], region_of=region_of)
    if kernel:
        kinds = [step.kind for step in plan.steps]
        notes = "; ".join(plan.notes) or "it has no emitter for this target"
        assert any(isinstance(s, Launch) for s in plan.steps), f"{op.name} is {kinds}: {notes}"
    device = torch.device("cuda" if torch.cuda.is_available() and target != "cpu" else "cpu")
    executable = load(plan, device, regions="never")
    for given in drawn_arguments(graph, sizes):
        args = [a.to(device) if isinstance(a, torch.Tensor) else a for a in _row_major(given)]
        found, expected = executable(list(args)), evaluate(graph, args)
        assert_alike(found, expected, args, args, narrowest_of(graph), args)
    return plan


def _row_major(args: Sequence[torch.Tensor | int]) -> list[torch.Tensor | int]:
    """What params without strides promise."""
    return [a.contiguous() if isinstance(a, torch.Tensor) else a for a in args]
