"""What tracing takes apart and what it leaves whole: one rule for both doors.

An operator with a row in the table stays whole; one without is taken apart where torch knows how.
Random operators are never taken apart: eager's random numbers are part of its semantics.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch._ops import OperatorBase, OpOverload

from effcomp.capture.registered import op_for, registered_operators
from effcomp.capture.table import ROWS
from effcomp.capture.table.rows import find_overload
from effcomp.errors import FallbackWarning

# Not in torch's core table: interpolations that models use, and their like.
EXTRA = (
    "upsample_bilinear2d.default", "upsample_bilinear2d.vec", "upsample_bicubic2d.default",
    "upsample_bicubic2d.vec", "upsample_linear1d.default", "upsample_trilinear3d.default",
    "_log_softmax_backward_data.default", "_softmax_backward_data.default",
)  # fmt: skip


def is_composite(op: OpOverload) -> bool:
    """Whether autograd sees the parts of an operator rather than itself."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")


def _is_functional(op: OpOverload) -> bool:
    schema = op._schema
    aliases = any(value.alias_info is not None for value in (*schema.returns, *schema.arguments))
    return not aliases and not schema.is_mutable


def aot_decompositions() -> Mapping[OpOverload, Callable[..., Any]]:
    """torch's core decompositions but for what has a row, and some interpolations besides.

    Composites without a decomposition of their own are left out: AOT has them in parts already.
    """
    registered_operators()  # loads the plugins: what stays whole is theirs to say too
    return {op: parts for op, parts in _decompositions().items() if op_for(op) is None}


@functools.cache
def _decompositions() -> Mapping[OpOverload, Callable[..., Any]]:
    from torch._decomp import decomposition_table

    extra = {find_overload(name) for name in EXTRA}
    is_core = _core_table()
    return {
        op: parts
        for op, parts in decomposition_table.items()
        if isinstance(op, OpOverload) and (op in extra or is_core(op)) and _is_taken_apart(op)
    }


def _core_table() -> Callable[[OpOverload], bool]:
    """Whether torch's core decompositions hold an operator that has a decomposition.

    To make that table torch looks through all its operators for composites, most of which have
    none: a third of a second, against a hundredth for asking of those that do.
    """
    try:
        from torch._decomp import _core_aten_decompositions_post_autograd as core_decompositions
        from torch._export.utils import _is_preservable_cia_op as is_kept_composite
        from torch.export.decomp_utils import PRESERVED_ATEN_CIA_OPS as preserved
    except ImportError:  # a torch that names its parts otherwise
        from torch._decomp import core_aten_decompositions

        return frozenset(core_aten_decompositions()).__contains__
    core = core_decompositions()
    return lambda op: op in core or (op not in preserved and is_kept_composite(op))


def export_decompositions() -> dict[OperatorBase, Callable[..., Any]]:
    """For `ExportedProgram.run_decompositions`, where leaving out a composite keeps it whole."""
    from torch.export import default_decompositions

    registered_operators()
    table = default_decompositions()
    for op in [op for op in table if isinstance(op, OpOverload) and not _is_taken_apart(op)]:
        del table[op]
    table.update(aot_decompositions())
    return table


def _is_taken_apart(op: OpOverload) -> bool:
    return (
        op not in ROWS and op_for(op) is None and torch.Tag.nondeterministic_seeded not in op.tags
    )


@contextlib.contextmanager
def whole_composites() -> Iterator[None]:
    """Keep the composites that have a row (linear, layer_norm, ...) whole while AOT traces.

    Only for graphs without gradients: under gradients torch would silently build an empty
    backward graph.
    """
    try:
        from torch.export.exported_program import _override_composite_implicit_decomp as override
    except ImportError:
        warnings.warn(
            f"torch {torch.__version__} cannot keep composite operators whole; "
            "linear, attention and the norms are compiled from their parts",
            FallbackWarning,
            stacklevel=2,
        )
        yield
        return
    known = {*ROWS, *registered_operators()}
    with override({op: _stay_whole for op in known if is_composite(op) and _is_functional(op)}):
        yield


def _stay_whole(*_args: object, **_kwargs: object) -> object:
    return NotImplemented
