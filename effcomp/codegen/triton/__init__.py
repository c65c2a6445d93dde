"""Triton kernels for groups: tile the group, print the tile kernel."""

from effcomp.codegen.triton.launch import emit_group

__all__ = ["emit_group"]
