"""A warm start without AOTAutograd: from the graph that Dynamo hands over straight to its plan.

What happened is counted in `torch._dynamo.utils.counters["effcomp"]`: "trace hits", "trace misses",
"trace bypassed: ..." for a graph that is none for this cache, and "trace not kept: ..." for one
that was compiled, and whose plan may not be reached without AOTAutograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch._dynamo.utils import counters
from torch._guards import TracingContext
from torch.fx import GraphModule

from effcomp import cache
from effcomp.config import Config
from effcomp.plan.schema import Plan
from effcomp.plugins import load_plugins
from effcomp.plugins.digest import registered_text
from effcomp.target import Target
from effcomp.trace_key import Bypass, guard_count, needs_gradients, trace_text, unkept

if TYPE_CHECKING:
    from effcomp.capture import Captured, Role  # what compiles, which a hit has no need of


@dataclass(slots=True)
class TracePlace:
    """Where the trace of one Dynamo graph is, or will be."""

    key: str
    inputs: int
    guards: int
    made: list[tuple[Captured, Role, str]] = field(default_factory=list)

    def read(self) -> Plan | None:
        """The plan that the graph leads to; None where it has to be compiled."""
        plan_key = cache.read_trace(self.key)
        plan = cache.read(plan_key) if plan_key is not None else None
        counters["effcomp"]["trace misses" if plan is None else "trace hits"] += 1
        return plan

    def note(self, captured: Captured, role: Role, plan_key: str) -> None:
        """Take note of a graph that was compiled on the way."""
        self.made.append((captured, role, plan_key))

    def keep(self) -> None:
        """Store where the graph leads, if calling the plan is all that there is to do."""
        made, self.made = self.made, []
        if reason := self._unkept(made):
            counters["effcomp"][f"trace not kept: {reason}"] += 1
            return
        ((_, _, plan_key),) = made
        cache.write_trace(self.key, plan_key)

    def _unkept(self, made: Sequence[tuple[Captured, Role, str]]) -> str:
        from effcomp.capture import Role

        context = TracingContext.get()
        if [role for _, role, _ in made] != [Role.INFERENCE]:
            return "it is not one graph for inference"
        ((captured, _, _),) = made
        if captured.constants:
            return "the program holds constants"
        if len(captured.graph.params) != self.inputs:
            return "its inputs were regrouped"
        if guard_count(context) != self.guards:
            return "AOTAutograd added guards"
        try:
            return unkept(context, self.inputs)
        except AttributeError as missing:  # as below: in another version of torch
            return str(missing)


def place_of(
    gm: GraphModule, inputs: Sequence[Any], config: Config, target: Target
) -> TracePlace | None:
    """The place of a graph that Dynamo traced; None, counted, where it can have none."""
    try:
        if needs_gradients(gm, inputs):
            raise Bypass("gradients are needed")
        text = trace_text(gm, inputs)
    except (Bypass, AttributeError) as reason:
        # What torch keeps to itself may have another name in a version that nobody here has seen.
        counters["effcomp"][f"trace bypassed: {reason}"] += 1
        return None
    load_plugins()  # what is registered shapes plans
    key = cache.key_of((text, target.name, config.key(), registered_text()))
    return TracePlace(key, len(inputs), guard_count(TracingContext.get()))
