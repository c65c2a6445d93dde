"""Graphs as the core ATen calls that torch-mlir reads, with types and source lines on each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.fx import traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from effcomp.dtypes import DTYPES
from effcomp.errors import MlirError
from effcomp.ir import Dim, Graph, SizeType, Type, print_dim
from effcomp.ir.dims import free_sizes
from effcomp.mlir.decompositions import DECOMPOSITIONS
from effcomp.mlir.reshapes import spell_out_reshapes
from effcomp.reference.fx import size_value, to_fx

Table = Mapping[Any, Callable[..., Any]]

# Stand-ins for sizes while tracing are these times different primes, so that no two sizes are taken
# for one. Large even ones first: what a model halves comes out even. If an op refuses, small ones:
# a size may have to fit into a table of positions.
_STEPS = (64, 2)


def trace(graph: Graph, decompositions: Table) -> torch.fx.GraphModule:
    """A graph that writes nothing, without bodies and composite calls. Raises MlirError.

    A node's `meta` holds the type of its value ("val") and its line ("stack_trace").
    """
    module = to_fx(graph)
    names = sorted(free_sizes(d for param in graph.params for d in _dims(param.type)))
    table = {**decompositions, **DECOMPOSITIONS}
    refused: MlirError | None = None
    for step in _STEPS if names else _STEPS[:1]:
        try:
            traced = _trace(module, graph, names, step, table)
        except MlirError as error:
            refused = refused or error
            continue
        traced.graph.eliminate_dead_code()
        spell_out_reshapes(traced)
        return traced
    assert refused is not None, "some step was tried"
    raise refused


def _trace(
    module: torch.fx.GraphModule,
    graph: Graph,
    names: Sequence[str],
    step: int,
    table: Table,
) -> torch.fx.GraphModule:
    environment = ShapeEnv()
    sizes = {
        name: _size(environment, name, step * sympy.prime(n)) for n, name in enumerate(names, 3)
    }
    with FakeTensorMode(shape_env=environment):
        args = [_stand_in(param.type, sizes) for param in graph.params]
    interpreter = _Interpreter(module)

    def run(*args: Any) -> Any:
        with traceback.preserve_node_meta():
            return interpreter.run(*args)

    pure = dispatch_functionalize(run, FunctionalTensorMode())  # composites write into what is new
    with torch.no_grad():
        traced = make_fx(pure, decomposition_table=dict(table), tracing_mode="symbolic")(*args)
    for name, size in sizes.items():
        if (found := environment.replace(size.node.expr)) != size.node.expr:
            raise MlirError(
                f"size {name} of @{graph.name} cannot stay dynamic: an op asks that it be {found}; "
                "capture the model with this size fixed"
            )
    return traced


def _dims(declared: Type) -> Sequence[Dim]:
    return (declared.expr,) if isinstance(declared, SizeType) else declared.shape


def _size(environment: ShapeEnv, name: str, hint: int) -> torch.SymInt:
    """A symbol of torch's for a named size."""
    source = ConstantSource(name)
    symbol = environment.create_symbol(
        hint,
        source=source,
        dynamic_dim=DimDynamic.DYNAMIC,
        constraint_dim=None,
        do_not_specialize_zero_one=True,
    )
    found = environment.create_symintnode(symbol, hint=hint, source=source)
    assert isinstance(found, torch.SymInt), f"{name} is dynamic"
    return found


def _stand_in(declared: Type, sizes: Mapping[str, torch.SymInt]) -> Any:
    """A size or, in fake mode, a tensor of the declared type."""
    dims = [d if isinstance(d, int) else size_value(print_dim(d), sizes) for d in _dims(declared)]
    if isinstance(declared, SizeType):
        return dims[0]
    return torch.empty(dims, dtype=DTYPES[declared.dtype])


class _Interpreter(torch.fx.Interpreter):
    """Runs call after call; an error names the op that the call was emitted for."""

    extra_traceback = False  # torch's own text for errors, which replaces the first line

    def run_node(self, n: torch.fx.Node) -> Any:
        try:
            return super().run_node(n)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            op = n.meta.get("effcomp")
            what = f"{op.name} at {op.loc or 'an unknown line'}" if op else str(n.target)
            reason = str(error).partition("\n")[0]
            raise MlirError(f"{what} cannot be traced for MLIR: {reason}") from error
