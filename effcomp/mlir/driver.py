"""What users call: a graph or a model in, MLIR text out."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from effcomp.ahead.exporting import export as export_program
from effcomp.ahead.weights import bind_weights
from effcomp.capture import decompose_exported, import_exported, snake_case
from effcomp.dtypes import DTYPES
from effcomp.errors import MlirError, nearest
from effcomp.ir import Graph, Value, parse_graph
from effcomp.mlir.functional import functional
from effcomp.mlir.tracing import trace
from effcomp.passes.textual import parse_pipeline
from effcomp.plan.manifest import FromWeight
from effcomp.runtime.model import CompiledModel

Dialect = Literal["linalg", "raw", "stablehlo", "torch", "tosa"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

_LARGEST_TEXT = 2**31  # bytes of weights; every byte is two digits


def export(
    source: Graph | CompiledModel,
    dialect: Dialect = "linalg",
    *,
    weights: Sequence[Tensor] | None = None,
) -> str:
    """A graph in a dialect of MLIR, as text; of a compiled model the graph its plan was made from.

    Dialects: "linalg" (on tensors), "tosa", "stablehlo", "torch" (torch-mlir's backend contract,
    which IREE takes) and "raw" (every call as it is). Named sizes stay dynamic.

    `weights` are values for the params marked as weights, by order of params: given, these become
    constants of the text instead of arguments.

    Raises MlirError naming the op and its source line where the dialect has no form for it, and the
    dialects that have one; also for a dialect nobody knows, or where torch-mlir is not installed.
    """
    graph = source if isinstance(source, Graph) else _graph_of(source)
    if dialect not in DIALECTS:
        raise MlirError(f"no MLIR dialect {dialect!r}; {nearest(dialect, DIALECTS)}")
    lowering, traced = _traced(graph)
    arguments = graph.params if weights is None else _embed(traced, graph, weights)
    try:
        text = lowering.lower(traced, dialect)
    except MlirError as error:
        takes = [d for d in DIALECTS if d != dialect and lowering.takes(traced, d)]
        way_out = f"{', '.join(takes)} can" if takes else "no dialect can"
        raise MlirError(f"{dialect} cannot take the graph: {error}; {way_out}") from error
    names = ", ".join(f"%arg{i} {v.hint or 'unnamed'}" for i, v in enumerate(arguments))
    return f"// Written by effcomp: @main({names})\n{text}"


def dialects_of(graph: Graph) -> tuple[Dialect, ...]:
    """The dialects that take a graph. Raises MlirError where it cannot even be traced."""
    lowering, traced = _traced(graph)
    return tuple(d for d in DIALECTS if lowering.takes(traced, d))


def _traced(graph: Graph) -> tuple[ModuleType, torch.fx.GraphModule]:
    """torch-mlir's half of this package, and the graph as it reads graphs."""
    if find_spec("torch_mlir") is None:
        raise MlirError("exporting to MLIR needs torch-mlir: pip install 'effcomp[mlir]'")
    from effcomp.mlir import lowering

    return lowering, trace(functional(graph), lowering.decompositions())


def _embed(
    traced: torch.fx.GraphModule, graph: Graph, weights: Sequence[Tensor]
) -> tuple[Value, ...]:
    """Put weights in the place of arguments; returns the params that stay arguments."""
    declared = [p for p in graph.params if p.weight]
    if len(declared) != len(weights):
        raise MlirError(f"@{graph.name} has {len(declared)} weights, got {len(weights)}")
    if (size := sum(w.nbytes for w in weights)) > _LARGEST_TEXT:
        raise MlirError(
            f"{size / 2**30:.1f} GiB of weights are too much for a text: leave them arguments "
            '(weights="arguments" of export_model)'
        )
    values = dict(zip(declared, weights, strict=True))
    for param, value in values.items():
        if (DTYPES[param.dtype], param.shape) != (value.dtype, tuple(value.shape)):
            found = f"{value.dtype}{list(value.shape)}"
            raise MlirError(f"weight {param.hint} of @{graph.name} is {param.type}, got {found}")
    placeholders = [n for n in traced.graph.nodes if n.op == "placeholder"]
    for i, (param, node) in enumerate(zip(graph.params, placeholders, strict=True)):
        if param not in values:
            continue
        traced.register_buffer(f"weight_{i}", values[param])
        with traced.graph.inserting_before(node):
            constant = traced.graph.get_attr(f"weight_{i}")
        node.replace_all_uses_with(constant)
        traced.graph.erase_node(node)
    return tuple(p for p in graph.params if p not in values)


def export_model(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dialect: Dialect = "linalg",
    dynamic_shapes: Any = None,
    pipeline: str = "",
    weights: Literal["embed", "arguments"] = "embed",
) -> str:
    """A model in a dialect of MLIR, after the passes of `pipeline` ("canonicalize,cse").

    The model and its example arguments are those of `effcomp.compile`. Parameters, buffers and
    constants are part of the text, or with weights="arguments" come among the function's arguments
    as `export` has them; buffers that a call writes to are arguments always. Raises as `export`
    does, and CaptureError and PassError.
    """
    program = decompose_exported(export_program(model, args, kwargs, dynamic_shapes))
    captured = import_exported(program, snake_case(type(model).__name__))
    graph = captured.graph
    if pipeline:
        graph = parse_pipeline(pipeline).run(graph).graph
    if weights == "arguments":
        return export(graph, dialect)
    bindings, entries, tensors = bind_weights(program, captured)
    values = [
        tensors[entries[binding.name].tensor]
        for param, binding in zip(graph.params, bindings, strict=True)
        if param.weight and isinstance(binding, FromWeight)
    ]
    return export(graph, dialect, weights=values)


def _graph_of(compiled: CompiledModel) -> Graph:
    """The last stage for its device, or for the only target there is."""
    stages = compiled.stages
    target = next(iter(stages)) if len(stages) == 1 else compiled.target
    return parse_graph(stages[target][-1][1])
