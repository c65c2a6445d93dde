"""Which weight every port of a plan takes, and which names share one tensor."""

from collections.abc import Hashable, Mapping
from typing import Literal

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from effcomp.capture import Captured
from effcomp.dtypes import DTYPE_NAMES
from effcomp.plan.manifest import Binding, FromCall, FromWeight, WeightEntry

__all__ = ["bind_weights"]

_KINDS: Mapping[InputKind, Literal["parameter", "buffer", "constant"]] = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
}


def bind_weights(
    program: ExportedProgram, captured: Captured
) -> tuple[tuple[Binding, ...], dict[str, WeightEntry], dict[str, torch.Tensor]]:
    """For every port what it takes; the weights by name; the tensors that they name.

    Names of one tensor (tied weights) are stored as one. A buffer that calls write to is copied:
    it is state of the compiled model, not of the module.
    """
    signature = program.graph_signature
    written = {s.target for s in signature.output_specs if s.kind is OutputKind.BUFFER_MUTATION}
    bindings: list[Binding] = []
    entries: dict[str, WeightEntry] = {}
    tensors: dict[str, torch.Tensor] = {}
    stored: dict[Hashable, str] = {}

    def add(
        name: str, tensor: torch.Tensor, kind: Literal["parameter", "buffer", "constant"]
    ) -> None:
        tensor, state = tensor.detach(), name in written
        key = stored.setdefault(name if state else _identity(tensor), name)
        if key == name:
            tensors[name] = tensor.clone() if state else tensor
        entries[name] = WeightEntry(
            DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tuple(tensor.stride()), key, kind, state
        )
        bindings.append(FromWeight(name))

    calls = 0
    for spec in signature.input_specs:
        if isinstance(spec.arg, ConstantArgument):
            continue
        if spec.kind is InputKind.USER_INPUT:
            bindings.append(FromCall(calls))
            calls += 1
            continue
        assert spec.target is not None, "a weight has a name"
        held = program.state_dict if spec.target in program.state_dict else program.constants
        tensor = held[spec.target]
        assert isinstance(tensor, torch.Tensor), "capture has refused every other object"
        # What a module does not save is in no state dict: to others it is a constant.
        add(spec.target, tensor, "constant" if spec.persistent is False else _KINDS[spec.kind])
    for number, tensor in enumerate(captured.constants):
        add(f"constant {number}", tensor, "constant")
    return tuple(bindings), entries, tensors


def _identity(tensor: torch.Tensor) -> Hashable:
    """Equal for tensors that are the same view of the same memory."""
    place = (tensor.data_ptr(), tensor.device, tensor.dtype)
    return (*place, tuple(tensor.shape), tensor.stride()) if tensor.numel() else object()
