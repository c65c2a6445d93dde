"""Every op as plain ATen calls: the oracle of the tests, and the only table from ops to ATen."""

from effcomp.reference import rows
from effcomp.reference.oracle import evaluate
from effcomp.reference.regions import region_of

__all__ = ["evaluate", "region_of", "rows"]
