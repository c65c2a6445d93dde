"""The doors: a graph or a model in, MLIR text out."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from effcomp.capture import Captured
from effcomp.capture.exported import capture_exported
from effcomp.errors import MlirError
from effcomp.ir import Graph, Value
from effcomp.mlir.functional import functional
from effcomp.mlir.tracing import trace
from effcomp.passes.textual import parse_pipeline

Dialect = Literal["linalg", "raw", "stablehlo", "torch", "tosa"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


def export(
    graph: Graph, dialect: Dialect = "linalg", *, weights: Sequence[Tensor] | None = None
) -> str:
    """The graph in a dialect of MLIR, as text.

    Dialects: "linalg" (on tensors), "tosa", "stablehlo", "torch" (torch-mlir's backend contract,
    which IREE takes) and "raw" (every call as it is). Named sizes stay dynamic.

    `weights` are values for the params marked as weights, by order of params: given, these become
    constants of the text instead of arguments.

    Raises MlirError naming the op and its source line where the dialect has no form for it, and the
    dialects that have one; also for a dialect nobody knows, or where torch-mlir is not installed.
    """
    if dialect not in DIALECTS:
        raise MlirError(f"no MLIR dialect {dialect!r}; there are: {', '.join(DIALECTS)}")
    if find_spec("torch_mlir") is None:
        raise MlirError("exporting to MLIR needs torch-mlir: pip install 'effcomp[mlir]'")
    from effcomp.mlir import lowering

    traced = trace(functional(graph), lowering.decompositions())
    arguments = graph.params if weights is None else _embed(traced, graph, weights)
    try:
        text = lowering.lower(traced, dialect)
    except MlirError as error:
        takes = [d for d in DIALECTS if d != dialect and _is_taken(traced, d)]
        way_out = f"{', '.join(takes)} can" if takes else "no dialect can"
        raise MlirError(f"{dialect} cannot take the graph: {error}; {way_out}") from error
    names = ", ".join(f"%arg{i} {v.hint or 'unnamed'}" for i, v in enumerate(arguments))
    return f"// Written by effcomp: @main({names})\n{text}"


def _is_taken(traced: torch.fx.GraphModule, dialect: str) -> bool:
    from effcomp.mlir import lowering

    try:
        lowering.lower(traced, dialect)
    except MlirError:
        return False
    return True


def _embed(
    traced: torch.fx.GraphModule, graph: Graph, weights: Sequence[Tensor]
) -> tuple[Value, ...]:
    """Put weights in the place of arguments; returns the params that stay arguments."""
    declared = [p for p in graph.params if p.weight]
    if len(declared) != len(weights):
        raise MlirError(f"@{graph.name} has {len(declared)} weights, got {len(weights)}")
    values = dict(zip(declared, weights, strict=True))
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
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dialect: Dialect = "linalg",
    dynamic_shapes: Any = None,
    pipeline: str = "",
    weights: Literal["embed", "arguments"] = "embed",
) -> str:
    """A model in a dialect of MLIR, after the passes of `pipeline` ("canonicalize,cse").

    A module is exported by torch.export for `args` and `kwargs`, without gradients; a program is
    taken as it is. Its parameters, buffers and constants are part of the text, or with
    weights="arguments" come first among the function's arguments. Raises as `export` does, and
    CaptureError and PassError.
    """
    if isinstance(model, ExportedProgram):
        program = model
    else:
        with torch.no_grad():
            program = torch.export.export(
                model, args, dict(kwargs or {}), dynamic_shapes=dynamic_shapes
            )
    captured = capture_exported(program)
    graph = parse_pipeline(pipeline).run(captured.graph).graph if pipeline else captured.graph
    return export(
        graph, dialect, weights=_weights(program, captured) if weights == "embed" else None
    )


def _weights(program: ExportedProgram, captured: Captured) -> list[Tensor]:
    """Values of the graph's weights, by order of params. A buffer that is written to is none."""
    held = {**program.state_dict, **program.constants}
    kinds = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    names = [s.target for s in program.graph_signature.input_specs if s.kind in kinds]
    params = captured.graph.params[: len(names)]
    values = [held[str(name)] for name, p in zip(names, params, strict=True) if p.weight]
    return [*values, *captured.constants]
