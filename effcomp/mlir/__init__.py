"""Graphs as MLIR text: `export` writes a graph of any stage of the pipeline in a dialect.

Needs the extra `effcomp[mlir]`. A graph becomes one function `@main`. Its arguments are the
graph's params in order; its results are what the graph leaves in the params that it writes to, by
order of params, and then the graph's outputs. Groups are written as the ops they hold.
"""

from effcomp.mlir.driver import DIALECTS, Dialect, dialects_of, export, export_model

__all__ = ["DIALECTS", "Dialect", "dialects_of", "export", "export_model"]
