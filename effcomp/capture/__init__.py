"""From torch programs to the IR: one importer behind two doors."""

from effcomp.capture.captured import Captured, Role
from effcomp.capture.dynamo import compile_dynamo, needs_gradients
from effcomp.capture.exported import capture_exported, decompose_exported, import_exported
from effcomp.capture.origin import snake_case

__all__ = [
    "Captured",
    "Role",
    "capture_exported",
    "compile_dynamo",
    "decompose_exported",
    "import_exported",
    "needs_gradients",
    "snake_case",
]
