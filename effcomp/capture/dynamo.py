"""The door for torch.compile: what Dynamo traced goes through AOTAutograd and the importer."""

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters
from torch._guards import TracingContext
from torch.fx import GraphModule, Node

from effcomp.boxed import Boxed, boxed
from effcomp.capture.captured import Captured, Role
from effcomp.capture.decompositions import aot_decompositions, whole_composites
from effcomp.capture.importer import Inputs, import_graph
from effcomp.capture.origin import graph_title, param_hint
from effcomp.errors import CaptureError, FallbackWarning
from effcomp.trace_key import needs_gradients

CompileGraph = Callable[[Captured, Role], Boxed]

# What tracing raises for programs it cannot handle, such as an operator without a fake kernel.
TRACING_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError)
_PRIMAL = re.compile(r"primals_(\d+)")


def compile_dynamo(
    gm: GraphModule, example_inputs: Sequence[Any], compile_graph: CompileGraph
) -> Callable[..., Any]:
    """Compile what Dynamo traced: `compile_graph` is called once for each graph that AOT makes.

    A graph that cannot be captured runs eagerly instead, with a FallbackWarning, and is counted in
    `torch._dynamo.utils.counters["effcomp"]`.
    """
    from functorch.compile import min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    door = _Door(compile_graph, [n.name for n in gm.graph.find_nodes(op="placeholder")])
    door.title = graph_title(gm.graph.nodes)
    compiler = aot_autograd(
        fw_compiler=door.compiler(Role.FORWARD),
        bw_compiler=door.compiler(Role.BACKWARD),
        inference_compiler=door.compiler(Role.INFERENCE),
        decompositions=dict(aot_decompositions()),
        partition_fn=min_cut_rematerialization_partition,
        keep_inference_input_mutations=True,
    )
    whole = nullcontext() if needs_gradients(gm, example_inputs) else whole_composites()
    try:
        with whole:
            return compiler(gm, example_inputs)
    except TRACING_ERRORS as error:
        if door.traced or isinstance(error, TorchDynamoException):
            raise  # not tracing's: the compiler's own, or a message to Dynamo
        _fall_back(f"tracing failed: {error}")
        return gm.forward


@dataclass(slots=True)
class _Door:
    """The compilers that AOT calls for one Dynamo graph."""

    compile_graph: CompileGraph
    names: list[str]  # Dynamo's placeholders
    title: str = ""
    traced: bool = field(default=False)

    def compiler(self, role: Role) -> Callable[[GraphModule, Sequence[Any]], Boxed]:
        def compile_traced(gm: GraphModule, _fakes: Sequence[Any]) -> Boxed:
            self.traced = True
            suffix = "" if role is Role.INFERENCE else role.value
            try:
                inputs, aliases = self.inputs(gm, role), _aliases(gm, role)
                captured = import_graph(gm, inputs, suffix, title=self.title, aliases=aliases)
            except CaptureError as error:
                _fall_back(str(error))
                return boxed(lambda args: _run_eagerly(gm, args))
            return boxed(self.compile_graph(captured, role))

        return compile_traced

    def inputs(self, gm: GraphModule, role: Role) -> Inputs:
        placeholders = gm.graph.find_nodes(op="placeholder")
        static = _static_inputs()
        weights: set[str] = set()
        hints: dict[str, str] = {}
        for index, node in enumerate(placeholders):
            position = _position(node, index, role)
            if position in static:
                weights.add(node.name)
            source = getattr(node.meta.get("desc"), "idx", position)
            if source is not None and source < len(self.names):
                hints[node.name] = param_hint(self.names[source])
        return Inputs(hints, frozenset(weights))


def _position(node: Node, index: int, role: Role) -> int | None:
    """Which of AOT's inputs a placeholder is; None for what the backward pass alone has."""
    if role is Role.INFERENCE:
        return index
    found = _PRIMAL.fullmatch(node.name)
    return int(found[1]) - 1 if found else None


def _metadata() -> Any:
    """What AOT knows of the forward pass; None where it does not say."""
    context = TracingContext.try_get()
    return context.fw_metadata if context is not None else None


def _static_inputs() -> frozenset[int]:
    """Positions of parameters, buffers and other inputs whose address does not change."""
    metadata = _metadata()
    return frozenset(metadata.static_input_indices or ()) if metadata is not None else frozenset()


def _aliases(gm: GraphModule, role: Role) -> dict[int, Node] | None:
    """The outputs, by position, that AOT makes anew as views of an input, and that input.

    It only takes over where in the input they lie. The trace shows views of inputs that nobody
    writes to; views of others look like views of what the input will become. None for a backward
    pass: gradients that shared memory would be added up in place by whoever gets them.
    """
    metadata = _metadata()
    if role is Role.BACKWARD:
        return None
    if metadata is None:
        return {}
    from torch._functorch._aot_autograd.schemas import OutputType

    placeholders = gm.graph.find_nodes(op="placeholder")
    inputs = {_position(node, index, role): node for index, node in enumerate(placeholders)}
    kinds = (OutputType.alias_of_input, OutputType.is_input)
    return {
        position: inputs[info.base_idx]
        for position, info in enumerate(
            metadata.output_info, metadata.num_mutated_inp_runtime_indices
        )
        if info.output_type in kinds and info.base_idx in inputs
    }


def _run_eagerly(gm: GraphModule, args: list[Any]) -> list[Any]:
    given = list(args)
    args.clear()
    return list(gm.forward(*given))


def _fall_back(reason: str) -> None:
    counters["effcomp"]["eager graphs"] += 1
    warnings.warn(f"a graph runs eagerly: {reason}", FallbackWarning, stacklevel=3)
