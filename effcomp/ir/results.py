"""What a compiled function returns, beside a graph's outputs as they are."""

from dataclasses import dataclass
from typing import Literal

from effcomp.ir.dims import Dim
from effcomp.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class ResultView:
    """Memory of an output or a param, `offset` elements in, under a type and strides of its own.

    `of` is a position among the graph's outputs, or its params. Strides and offset count elements
    of the view. An output lies in the layout that the graph states for it; of a param the memory is
    shown as it is when everything has been computed.
    """

    root: Literal["output", "param"]
    of: int
    type: TensorType
    strides: tuple[Dim, ...]
    offset: Dim = 0


Result = int | ResultView | None
"""One result: an output by its position, a view, or None."""
