"""FX graphs to MLIR: torch-mlir's importer and pipelines. Importing this needs torch-mlir."""

# torch-mlir's bindings come from a C extension, which pyright cannot read.
# pyright: reportAttributeAccessIssue=false

import re
from collections.abc import Mapping
from typing import Any

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
                raise MlirError(_reason(error, module)) from None
    return importer.module_op.get_asm(enable_debug_info=True)


def takes(module: torch.fx.GraphModule, dialect: str) -> bool:
    """Whether a dialect has a form for everything in the traced graph."""
    try:
        lower(module, dialect)
    except MlirError:
        return False
    return True


class _NodeImporter(GraphNodeImporter):
    """torch-mlir's importer of nodes, with errors that name the node."""

    def _import_argument(self, loc: Any, arg: Any, expected_jit_type: Any = None) -> ir.Value:
        # torch-mlir asks for a constant by another key than it keeps it by: a second reader fails.
        if isinstance(arg, torch.fx.Node) and arg.op == "get_attr" and (arg, 0) in self._v:
            return self.resolve_node_value(arg)
        return super()._import_argument(loc, arg, expected_jit_type)

    def _import_torch_op_overload(self, loc: Any, node: Any, concrete_target: Any = None) -> None:
        try:
            super()._import_torch_op_overload(loc, node, concrete_target)
        except _REFUSALS as error:
            reason = f"torch-mlir cannot import it: {_first_line(error)}"
            raise MlirError(f"{node.target} at {_place(loc)}: {reason}") from error


class _Literals(FxImporterHooks):
    """Tensors as resources straight from their memory; torch-mlir goes through Python lists."""

    def resolve_literal(self, gni: Any, literal: Any, info: Any) -> ir.Value | None:
        if not isinstance(literal, torch.Tensor) or literal.numel() < 2:
            return None
        held = literal.detach().cpu().contiguous()
        element = gni._cc.dtype_to_type(held.dtype)
        attribute = ir.DenseResourceElementsAttr.get_from_buffer(
            held.reshape(-1).view(torch.uint8).numpy(),
            "weight",
            ir.RankedTensorType.get(tuple(held.shape), element),
        )
        made = gni._cc.tensor_to_vtensor_type(held)
        return ir.Operation.create(
            "torch.vtensor.literal", results=[made], attributes={"value": attribute}
        ).result


def _reason(error: ir.MLIRError, module: torch.fx.GraphModule) -> str:
    """What went wrong first: the op, its source line, and torch-mlir's words."""
    if not error.error_diagnostics:
        return str(error)
    first = error.error_diagnostics[0]
    place = _place(first.location)
    called = re.search(r'name = "torch\.([\w.]+)"', first.message)
    quoted = re.search(r"'torch\.([\w.]+)'", first.message)
    named = called or quoted
    what = named.group(1) if named else "an op"
    if named is None or what.startswith(("constant.", "prim.")):  # its reader is what was refused
        what = ", ".join(_calls_at(place, module)) or what
    said = first.message.partition(": %")[0].partition("\n")[0]
    return f"{what} at {place}: {said}"


def _calls_at(place: str, module: torch.fx.GraphModule) -> dict[str, None]:
    """The distinct calls of one source line."""
    file, _, line = place.rpartition(":")
    where = f'File "{file}", line {line},'
    return {str(n.target): None for n in module.graph.nodes if where in (n.stack_trace or "")}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _place(loc: Any) -> str:
    """A location as models' lines are written everywhere in effcomp."""
    found = re.search(r'"([^"]+)":(\d+)', str(loc))
    return f"{found.group(1)}:{found.group(2)}" if found else "an unknown line"
