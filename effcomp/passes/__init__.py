"""Passes: each a frozen dataclass from Graph to Graph, one file each."""

from effcomp.passes.registry import PASSES

__all__ = ["PASSES"]
