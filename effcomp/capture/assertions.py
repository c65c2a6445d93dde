"""Operators that only exist at tracing: assertions, which are checked by torch's own guards."""

import torch

from effcomp.capture.table.rows import find_overload

ASSERTIONS = frozenset(
    overload
    for name in (
        "_assert_scalar.default",
        "_assert_async.msg",
        "_assert_async.default",
        "_assert_tensor_metadata.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
        "_functional_assert_scalar.default",
    )
    if (overload := find_overload(name)) is not None
)


def is_assertion(target: object) -> bool:
    """Whether a node only checks what tracing assumed."""
    return isinstance(target, torch._ops.OpOverload) and target in ASSERTIONS
