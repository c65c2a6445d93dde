"""What capture hands on: a graph, the tensors baked into it, and what the graph is for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from effcomp.ir import Graph, Result


class Role(Enum):
    """What a captured graph computes."""

    INFERENCE = "inference"
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured graph.

    `graph.params` are the compiled function's inputs in order, then one param (weight=True) for
    each of `constants`, the tensors that the traced program held as attributes. `results` are what
    the compiled function returns, in order: outputs of the graph, views of them, and None. `sizes`
    are the graph's sizes, by name, as they were in the call that was traced.
    """

    graph: Graph
    results: tuple[Result, ...]
    constants: tuple[Tensor, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
