"""A report's programs as graphs for Model Explorer (google-ai-edge/model-explorer).

The result is one of its `GraphCollection`s, as its JSON loader takes them from a file: modules are
layers to open, a fused group is a layer of its own, with what it costs as the layer's attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from effcomp.report.schema import GraphReport, GroupReport, OpReport, Report, ValueReport
from effcomp.report.units import show_bytes, show_flops, show_seconds

Source = tuple[str, str]  # the id of a node, and of the output of it
Record = dict[str, Any]


def export(report: Report) -> Record:
    """One graph for each graph of the report."""
    graphs = [_graph(graph, i) for i, graph in enumerate(report.graphs)]
    return {"label": report.title or "effcomp", "graphs": graphs}


@dataclass(slots=True)
class _Writer:
    """The nodes written so far, and what the layers say."""

    nodes: list[Record] = field(default_factory=list[Record])
    layers: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def node(
        self,
        label: str,
        namespace: str,
        reads: Sequence[Source] = (),
        results: Sequence[ValueReport] = (),
        attrs: Mapping[str, str] | None = None,
    ) -> str:
        id = str(len(self.nodes))
        edges = [
            {"sourceNodeId": node, "sourceNodeOutputId": output, "targetNodeInputId": str(i)}
            for i, (node, output) in enumerate(reads)
        ]
        outputs = [
            {"id": str(i), "attrs": _pairs({"name": value.name, "type": value.type})}
            for i, value in enumerate(results)
        ]
        self.nodes.append(
            {
                "id": id,
                "label": label,
                "namespace": namespace,
                "attrs": _pairs(attrs or {}),
                "incomingEdges": edges,
                "outputsMetadata": outputs,
            }
        )
        return id


def _graph(graph: GraphReport, index: int) -> Record:
    writer, program = _Writer(), graph.program
    sources: dict[str, Source] = {}
    for param in program.params:
        namespace = "weights" if param.weight else "inputs"
        sources[param.name] = writer.node(param.name, namespace, results=(param,)), "0"
    costs: dict[int, list[GroupReport]] = {}
    for group in graph.groups:
        costs.setdefault(group.op, []).append(group)
    for position, op in enumerate(program.ops):
        facts = _facts(graph, costs.get(position, ()))
        _op(writer, op, sources, op.scope.replace(".", "/"), facts, f"{op.name} {position}")
    writer.node("outputs", "", [sources[name] for name in program.outputs])
    writer.layers[""] = {
        "target": graph.target,
        "role": graph.role,
        "steps": str(len(graph.groups)),
        "memory": show_bytes(graph.peak_bytes),
    }
    return {
        "id": f"{index}: {graph.name} ({graph.role}, {graph.target})",
        "nodes": writer.nodes,
        "groupNodeAttributes": writer.layers,
    }


def _op(
    writer: _Writer,
    op: OpReport,
    sources: dict[str, Source],
    namespace: str,
    facts: Mapping[str, str],
    layer: str,
) -> None:
    """Write an op, or the body of a group as a layer; `sources` learns where its results are."""
    reads = [sources[name] for name in op.reads]
    if op.body is None:
        attrs = {**op.attrs, **({"loc": op.loc} if op.loc else {}), **facts}
        id = writer.node(op.name, namespace, reads, op.results, attrs)
        sources.update((value.name, (id, str(i))) for i, value in enumerate(op.results))
        return
    inside = f"{namespace}/{layer}".lstrip("/")
    writer.layers[inside] = {**({"loc": op.loc} if op.loc else {}), **facts}
    inner = {p.name: source for p, source in zip(op.body.params, reads, strict=True)}
    for i, one in enumerate(op.body.ops):
        _op(writer, one, inner, inside, {}, f"{one.name} {i}")
    for value, name in zip(op.results, op.body.outputs, strict=True):
        sources[value.name] = inner[name]


def _facts(graph: GraphReport, groups: Sequence[GroupReport]) -> dict[str, str]:
    """What the steps of an op run and cost."""
    if not groups:
        return {}
    functions = {kernel.digest: kernel.function for kernel in graph.kernels}
    return {
        "runs": ", ".join(functions.get(group.runs, group.runs) for group in groups),
        "bytes": show_bytes(sum(group.bytes for group in groups)),
        "FLOPs": show_flops(sum(group.flops for group in groups)),
        "estimate": show_seconds(sum(group.estimate for group in groups)),
    }


def _pairs(attrs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in attrs.items()]
