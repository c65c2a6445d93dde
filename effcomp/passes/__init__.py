"""Passes: each a frozen dataclass from Graph to Graph, one file each."""

from effcomp.passes.registry import PASSES, known_passes

__all__ = ["PASSES", "known_passes"]
