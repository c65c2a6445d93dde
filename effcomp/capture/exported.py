"""The door for torch.export."""

from collections.abc import Mapping
from typing import Any

from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import GraphModule

from effcomp.capture.captured import Captured
from effcomp.capture.decompositions import export_decompositions
from effcomp.capture.importer import Inputs, import_graph
from effcomp.capture.origin import param_hint
from effcomp.errors import CaptureError

WEIGHTS = frozenset({InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR})
WRITES = frozenset({OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION})
RESULTS = frozenset({OutputKind.USER_OUTPUT})


def decompose_exported(program: ExportedProgram) -> ExportedProgram:
    """The program in the operators that the importer knows. Its signature may have grown.

    Tensors that a module holds without having registered them (a static cache in an attribute)
    count as buffers: only those may be written. Raises CaptureError where torch cannot.
    """
    constants = [
        spec
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR
    ]
    try:
        for spec in constants:
            spec.kind, spec.persistent = InputKind.BUFFER, False
        return program.run_decompositions(export_decompositions())
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise CaptureError(f"torch.export cannot decompose the program: {error}") from error
    finally:
        for spec in constants:
            spec.kind, spec.persistent = InputKind.CONSTANT_TENSOR, None


def capture_exported(program: ExportedProgram) -> Captured:
    """Import an exported program. Raises CaptureError for what the IR cannot express."""
    return import_exported(decompose_exported(program))


def import_exported(program: ExportedProgram, title: str = "") -> Captured:
    """Import a program that `decompose_exported` returned.

    The graph's params are the program's inputs in the order of its signature: parameters, buffers
    and lifted constants (weights), then what the user passes, less the Python constants among it.
    Buffers and inputs that the program mutates are written by `state.write`; `title` names the
    graph. Raises CaptureError.
    """
    gm = program.graph_module
    assert isinstance(gm, GraphModule), "an exported program holds an fx graph"
    outputs = program.graph_signature.output_specs
    fixed = [i for i, spec in enumerate(outputs) if isinstance(spec.arg, ConstantArgument)]
    return import_graph(gm, _inputs(program), "", _writes(program), fixed=fixed, title=title)


def _inputs(program: ExportedProgram) -> Inputs:
    weights: set[str] = set()
    hints: dict[str, str] = {}
    constants: dict[str, Any] = {}
    for spec in program.graph_signature.input_specs:
        name = getattr(spec.arg, "name", None)
        if name is None or spec.kind in (InputKind.TOKEN, InputKind.CUSTOM_OBJ):
            raise CaptureError(f"the exported program takes {spec.arg}, a {spec.kind.name}")
        hints[name] = param_hint(name)
        if spec.kind in WEIGHTS:
            weights.add(name)
        if isinstance(spec.arg, ConstantArgument):
            constants[name] = spec.arg.value
    return Inputs(hints, frozenset(weights), constants)


def _writes(program: ExportedProgram) -> Mapping[int, str]:
    """Positions of outputs that stand for mutations, and the placeholders these overwrite."""
    signature = program.graph_signature
    buffers = {s.target: getattr(s.arg, "name", "") for s in signature.input_specs}
    writes: dict[int, str] = {}
    for position, spec in enumerate(signature.output_specs):
        if spec.kind in WRITES:
            assert spec.target is not None, "a mutation names its target"
            writes[position] = buffers.get(spec.target) or spec.target
        elif spec.kind not in RESULTS:
            raise CaptureError(f"the exported program returns {spec.arg}, a {spec.kind.name}")
    return writes
