"""The table from ATen's operators to the IR's ops, one module an idea.

Importing this fills `ROWS`. What has a row stays whole in tracing; what has none is taken apart
where torch knows how, and is an `aten.call` where it does not.
"""

from effcomp.capture.table import (
    attention,
    creation,
    elementwise,
    indexing,
    normalisation,
    prims,
    products,
    reduction,
    views,
)
from effcomp.capture.table.rows import ROWS, Row

__all__ = [
    "ROWS", "Row", "attention", "creation", "elementwise", "indexing", "normalisation", "prims",
    "products", "reduction", "views",
]  # fmt: skip
