"""Levels: which ops are legal between which passes."""

from enum import Enum

from effcomp.ir.core import Op
from effcomp.ir.spec import Trait, spec_of
from effcomp.ir.types import LIBRARY_ONLY, TensorType

_GENERATORS = frozenset({"tensor.full", "tensor.iota"})


class Level(Enum):
    """A stage of lowering; each pass states the level it takes and the one it gives."""

    TENSOR = "tensor"  # as captured: no groups
    FUSED = "fused"  # groups are forming: everything goes
    KERNEL = "kernel"  # every op is one kernel, one library call, or a view


def refused_at(level: Level, op: Op) -> str:
    """Why an op may not stand at this level; empty where it may."""
    namespace = op.name.partition(".")[0]
    if level is Level.TENSOR and namespace == "fused":
        return "groups form at level 'fused'"
    if level is Level.KERNEL and _is_arithmetic(op) and not _is_library_only(op):
        return "elementwise ops and generators stand inside groups by now"
    return ""


def _is_arithmetic(op: Op) -> bool:
    return Trait.ELEMENTWISE in spec_of(op).traits or op.name in _GENERATORS


def _is_library_only(op: Op) -> bool:
    """Complex numbers, for example, are left to library calls."""
    types = (v.type for v in (*op.operands, *op.results))
    return any(isinstance(t, TensorType) and t.dtype in LIBRARY_ONLY for t in types)
