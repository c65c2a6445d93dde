"""The intermediate representation: what a program is, and how it reads as text."""

from effcomp.ir import ops
from effcomp.ir.core import Attr, Edit, Graph, Op, Ref, Tag, Value
from effcomp.ir.dims import Dim, parse_dim, print_dim
from effcomp.ir.levels import Level
from effcomp.ir.results import Result, ResultView
from effcomp.ir.spec import SPECS, OpSpec, Trait, attr, is_pure, op, spec_of
from effcomp.ir.text import parse_graph, print_graph
from effcomp.ir.types import SizeType, TensorType, Type
from effcomp.ir.verify import verify

__all__ = [
    "SPECS", "Attr", "Dim", "Edit", "Graph", "Level", "Op", "OpSpec", "Ref", "Result", "ResultView",
    "SizeType", "Tag", "TensorType", "Trait", "Type", "Value", "attr", "is_pure", "op", "ops",
    "parse_dim", "parse_graph", "print_dim", "print_graph", "spec_of", "verify",
]  # fmt: skip
