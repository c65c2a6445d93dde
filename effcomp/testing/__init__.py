"""For tests of passes, rules and ops: goldens, numbers, reasons. Fails with AssertionError."""

from effcomp.plugins import isolated
from effcomp.reference import evaluate
from effcomp.testing.artifacts import run_artifact_golden
from effcomp.testing.filecheck import check_text
from effcomp.testing.golden import GoldenCase, assert_golden, golden_cases
from effcomp.testing.inputs import drawn_arguments, random_arguments
from effcomp.testing.numbers import check_pass
from effcomp.testing.ops import check_op
from effcomp.testing.rules import check_rule
from effcomp.testing.tolerance import TOLERANCE, assert_close

__all__ = [
    "TOLERANCE", "GoldenCase", "assert_close", "assert_golden", "check_op", "check_pass",
    "check_rule", "check_text", "drawn_arguments", "evaluate", "golden_cases", "isolated",
    "random_arguments", "run_artifact_golden",
]  # fmt: skip
