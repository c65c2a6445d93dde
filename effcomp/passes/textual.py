"""Programs and pipelines as text, with the ops and passes of plugins."""

from collections.abc import Mapping
from typing import Any

from effcomp.ir import Graph, Level
from effcomp.ir import parse_graph as read_graph
from effcomp.passes.registry import known_passes
from effcomp.plugins import load_plugins
from effcomp.rewrite import Pipeline
from effcomp.rewrite import parse_pipeline as read_pipeline

__all__ = ["parse_graph", "parse_pipeline"]


def parse_graph(text: str) -> Graph:
    """The program that a text writes down. Raises ParseError, with the line."""
    load_plugins()
    return read_graph(text)


def parse_pipeline(
    text: str, level: Level = Level.TENSOR, shared: Mapping[str, Any] | None = None
) -> Pipeline:
    """The pipeline that a text names, such as `canonicalize,fuse-rowwise{only="blocks.*"}`.

    The compiler's passes and those of plugins are known, by their names. `shared` are options for
    every pass that has them, where the text does not set them. Raises ConfigError.
    """
    return read_pipeline(text, known_passes(), level, shared)
