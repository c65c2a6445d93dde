"""Every op of the IR, one module a namespace. Importing this fills the op table."""

from effcomp.ir.ops import (
    aten,
    elementwise,
    fused,
    indexing,
    nn,
    reduction,
    state,
    view,
)

__all__ = ["aten", "elementwise", "fused", "indexing", "nn", "reduction", "state", "view"]
