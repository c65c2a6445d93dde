"""The table from ops to ATen, one module a namespace. Importing this fills it."""

from effcomp.reference.rows import elementwise, indexing, nn, reduction, structure, view

__all__ = ["elementwise", "indexing", "nn", "reduction", "structure", "view"]
