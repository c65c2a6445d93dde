"""Lower a graph of groups, library calls and views to a plan."""

from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.codegen.lower import lower_graph

__all__ = ["KernelLaunch", "Refusal", "lower_graph"]
