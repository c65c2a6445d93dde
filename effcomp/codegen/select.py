"""Which way each kind of op runs: the one place to read what a plan is made of."""

from collections.abc import Callable, Mapping

from effcomp.codegen.attention import attention
from effcomp.codegen.custom import custom
from effcomp.codegen.groups import copying_view, group, product_group
from effcomp.codegen.library import library, linear, matmul, slice_put, write
from effcomp.codegen.lowering import Lowering
from effcomp.ir import Op, Trait, spec_of
from effcomp.plugins import REGISTRY

Way = Callable[[Lowering, Op], None]


def nothing(low: Lowering, op: Op) -> None:
    """No step: the op is a fact of the plan (a size, a constant)."""


def view(low: Lowering, op: Op) -> None:
    """The operand's memory under strides of its own; a copy where strides cannot say it."""
    found = low.program.views.get(op.result)
    if found is None:
        return copying_view(low, op)
    if op.result not in low.draft.at:
        low.draft.show(op.result, found.root, found.offset)


WAYS: Mapping[str, Way] = {
    "fused.pointwise": group,
    "fused.rowwise": group,
    "fused.matmul": product_group,
    "nn.attention": attention,
    "nn.linear": linear,
    "tensor.matmul": matmul,
    "tensor.size": nothing,
    "state.prologue": nothing,  # its results are constants of the plan
    "state.write": write,
    "state.slice_put": slice_put,
    "state.index_put": library,
}
"""Ways by op. Registered ops have their author's; other VIEW ops are views; the rest are calls."""


def way_of(op: Op) -> Way:
    if op.name in WAYS:
        return WAYS[op.name]
    if op.name in REGISTRY.ops:
        return custom
    return view if Trait.VIEW in spec_of(op).traits else library
