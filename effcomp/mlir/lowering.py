"""FX graphs to MLIR: torch-mlir's importer and pipelines. Importing this needs torch-mlir."""

# torch-mlir's bindings come from a C extension, which pyright cannot read.
# pyright: reportAttributeAccessIssue=false

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch_mlir import ir
from torch_mlir.dialects import torch as torch_dialect
from torch_mlir.extras.fx_decomp_util import get_decomposition_table
from torch_mlir.extras.fx_importer import FxImporter, FxImporterHooks, GraphNodeImporter
from torch_mlir.passmanager import PassManager

from effcomp.errors import MlirError

_BACKEND_CONTRACT = (
    "func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=}"
)
PIPELINES: Mapping[str, tuple[str, ...]] = {
    "raw": (),
    "torch": (_BACKEND_CONTRACT,),
    "linalg": (_BACKEND_CONTRACT, "torch-backend-to-linalg-on-tensors-backend-pipeline"),
    "tosa": (_BACKEND_CONTRACT, "torch-backend-to-tosa-backend-pipeline"),
    "stablehlo": (_BACKEND_CONTRACT, "torch-backend-to-stablehlo-backend-pipeline"),
}
# What the importer raises for what it does not know.
_REFUSALS = (RuntimeError, TypeError, ValueError, LookupError, AssertionError)


def decompositions() -> dict[Any, Any]:
    """What torch-mlir wants expressed by simpler ATen calls."""
    return get_decomposition_table()


def lower(module: torch.fx.GraphModule, dialect: str) -> str:
    """The traced graph in a dialect, as text. Raises MlirError where an op has no form in it."""
    context = ir.Context()
    torch_dialect.register_dialect(context)
    importer = FxImporter(context=context, hooks=_Literals(), graph_node_importer_cls=_NodeImporter)
    try:
        importer.import_stateless_graph(module.graph, func_name="main")
    except _REFUSALS as error:
        raise MlirError(f"torch-mlir cannot import it: {_first_line(error)}") from error
    with context:
        for pipeline in PIPELINES[dialect]:
            try:
                PassManager.parse(f"builtin.module({pipeline})").run(importer.module_op)
            except ir.MLIRError as error:
                raise MlirError(_reason(error)) from None
    return importer.module_op.get_asm(enable_debug_info=True)


class _NodeImporter(GraphNodeImporter):
    """torch-mlir's importer of nodes, with errors that name the node."""

    def _import_torch_op_overload(self, loc: Any, node: Any, concrete_target: Any = None) -> None:
        try:
            super()._import_torch_op_overload(loc, node, concrete_target)
        except (RuntimeError, TypeError, ValueError, LookupError, AssertionError) as error:
            raise MlirError(
                f"{node.target} at {_place(loc)} cannot be imported: {error}"
            ) from error


class _Literals(FxImporterHooks):
    """Tensors as resources straight from their memory; torch-mlir goes through Python lists."""

    def resolve_literal(self, gni: Any, literal: Any, info: Any) -> ir.Value | None:
        if not isinstance(literal, torch.Tensor) or literal.numel() < 2:
            return None
        held = literal.detach().cpu().contiguous()
        element = gni._cc.dtype_to_type(held.dtype)
        attribute = ir.DenseResourceElementsAttr.get_from_buffer(
            held.reshape(-1).view(torch.uint8).numpy().view(np.uint8),
            "weight",
            ir.RankedTensorType.get(tuple(held.shape), element),
        )
        made = gni._cc.tensor_to_vtensor_type(held)
        return ir.Operation.create(
            "torch.vtensor.literal", results=[made], attributes={"value": attribute}
        ).result


def _reason(error: ir.MLIRError) -> str:
    """What went wrong first: the op, its source line, and torch-mlir's words."""
    if not error.error_diagnostics:
        return str(error)
    first = error.error_diagnostics[0]
    called = re.search(r'name = "torch\.([\w.]+)"', first.message)
    quoted = re.search(r"'([\w.]+)'", first.message)
    named = called or quoted
    what = named.group(1).removeprefix("torch.") if named else "an op"
    said = first.message.partition(": %")[0].partition("\n")[0]
    return f"{what} at {_place(first.location)}: {said}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _place(loc: Any) -> str:
    """A location as models' lines are written everywhere in effcomp."""
    found = re.search(r'"([^"]+)":(\d+)', str(loc))
    return f"{found.group(1)}:{found.group(2)}" if found else "an unknown line"
