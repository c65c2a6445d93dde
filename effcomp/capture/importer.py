"""Walks a functional fx graph of ATen operators and builds the IR graph it means."""

import hashlib
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import GraphModule, Node

from effcomp.capture.assertions import is_assertion
from effcomp.capture.builder import Builder, Unmodelled
from effcomp.capture.captured import Captured
from effcomp.capture.dtypes import name_of
from effcomp.capture.origin import graph_title, module_path, node_hint, source_line
from effcomp.capture.registered import row_of
from effcomp.capture.results import Results, Write
from effcomp.capture.sizes import Ratio, Sizes
from effcomp.capture.unmodelled import call_torch, reason_for, strides_of
from effcomp.errors import CaptureError
from effcomp.ir import (
    Dim,
    Graph,
    Level,
    Result,
    ResultView,
    SizeType,
    TensorType,
    Value,
    print_graph,
    verify,
)
from effcomp.ir.dims import free_sizes

NUMBERS = (bool, int, float, complex, torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a door knows of the graph's placeholders."""

    hints: Mapping[str, str] = field(default_factory=dict)  # by name of placeholder
    weights: Collection[str] = ()  # names of placeholders that stay the same from call to call
    constants: Mapping[str, Any] = field(default_factory=dict)  # what the program was traced for


def import_graph(
    gm: GraphModule,
    inputs: Inputs,
    suffix: str,
    writes: Mapping[int, str] | None = None,
    *,
    fixed: Collection[int] = (),
    title: str = "",
    aliases: Mapping[int, Node] | None = None,
) -> Captured:
    """Import a traced graph.

    `writes` maps outputs that stand for mutations to the placeholder they overwrite, where the
    trace says it that way (export) instead of by copy_; `fixed` are the positions of outputs that
    are Python constants, which the graph leaves out. With `aliases` results share memory as in
    torch: these say which outputs are views of a placeholder as it is in the end, where the trace
    itself does not. Raises CaptureError for what the IR cannot express, located.
    """
    importer = _Importer(gm, inputs)
    importer.name_sizes()
    for node in gm.graph.nodes:
        importer.visit(node)
    graph, results = importer.finish(writes or {}, fixed, aliases)
    name = "_".join(filter(None, (title or graph_title(gm.graph.nodes), suffix)))
    graph = replace(graph, name=f"{name}_{_digest(graph)}")
    verify(graph, Level.TENSOR)
    sizes = {size.name: value for size, value in importer.builder.sizes.hints.items()}
    return Captured(graph, results, tuple(importer.constants), sizes)


def _digest(graph: Graph) -> str:
    """Eight digits that tell graphs of one model apart and do not depend on when they were made."""
    return hashlib.sha256(print_graph(graph).encode()).hexdigest()[:8]


class _Importer:
    """The state of one import: what every node became."""

    def __init__(self, gm: GraphModule, inputs: Inputs) -> None:
        self.gm = gm
        self.inputs = inputs
        self.builder = Builder(Sizes(), device_of(gm))
        self.env: dict[Node, Any] = {}  # Value, tuple of Values, size, Ratio, None
        self.params: dict[Node, Value] = {}
        self.constants: list[Tensor] = []
        self.constant_params: dict[str, Value] = {}
        self.writes: list[Write] = []
        self.output: Node | None = None

    def name_sizes(self) -> None:
        """Name the symbols in the order of the inputs, and learn what torch knows about them."""
        sizes = self.builder.sizes
        shape_env = None
        for node in self.gm.graph.find_nodes(op="placeholder"):
            val = node.meta.get("val")
            for size in val.shape if isinstance(val, Tensor) else (val,):
                if isinstance(size, torch.SymInt):
                    sizes.dim(size)
                    shape_env = size.node.shape_env
        if shape_env is not None:
            sizes.learn(shape_env)

    def visit(self, node: Node) -> None:
        """Import one node. Raises CaptureError, located."""
        try:
            self._visit(node)
        except CaptureError as error:
            where = source_line(node) or "the traced graph"
            raise CaptureError(f"{where}: {node.name} = {node.target}: {error}") from None

    def _visit(self, node: Node) -> None:
        match node.op:
            case "placeholder":
                self._placeholder(node)
            case "get_attr":
                self.env[node] = self._constant(node)
            case "call_function":
                self.env[node] = self._call(node)
            case "output":
                self.output = node
            case _:
                raise CaptureError(f"a node of kind {node.op!r} stands in the graph")

    # Inputs.

    def _placeholder(self, node: Node) -> None:
        val = node.meta.get("val")
        hint = self.inputs.hints.get(node.name, node.name)
        if node.name in self.inputs.constants:
            self.env[node] = self.inputs.constants[node.name]
        elif isinstance(val, Tensor):
            weight = node.name in self.inputs.weights
            self.params[node] = self.env[node] = self._tensor_param(val, hint, weight)
        elif isinstance(val, (int, torch.SymInt)) and not isinstance(val, bool):
            size = self.builder.sizes.dim(val)
            self.params[node] = Value(SizeType(size), hint)
            self.env[node] = size
        else:
            raise CaptureError(f"an input is {val!r}: neither a tensor nor a size")

    def _tensor_param(self, val: Tensor, hint: str, weight: bool) -> Value:
        if val.layout is not torch.strided or val.is_quantized:
            raise CaptureError(f"a tensor has the layout {val.layout}; only strided ones are known")
        kind = TensorType(name_of(val.dtype), self.builder.sizes.shape(val.shape))
        return Value(kind, hint, strides_of(self.builder, val), weight)

    def _constant(self, node: Node) -> Value | None:
        """A tensor that the program holds: a number where it has rank 0, else one more param."""
        name = str(node.target)
        tensor = operator.attrgetter(name)(self.gm)
        if not isinstance(tensor, Tensor):
            if all(not isinstance(u.target, torch._ops.OpOverload) for u in node.users):
                return None  # a submodule: the operator that takes it will be refused, by name
            raise CaptureError(f"the program holds {name}, a {type(tensor).__name__}")
        self.builder.hint = node_hint(node)
        if tensor.ndim == 0 and type(tensor) is Tensor and not tensor.requires_grad:
            with unset_fake_temporarily():
                number = tensor.item()
            return self.builder.full((), number, name_of(tensor.dtype))
        if name not in self.constant_params:
            self.constant_params[name] = self._tensor_param(tensor, self.builder.hint, True)
            self.constants.append(tensor)
        return self.constant_params[name]

    # Operators.

    def _call(self, node: Node) -> Any:
        val = node.meta.get("val")
        if node.target is operator.getitem and (found := self._item(node)) is not None:
            return found
        if isinstance(val, NUMBERS):
            return self._number(val)
        if is_assertion(node.target) or node.target is operator.getitem:
            return None
        if not isinstance(node.target, torch._ops.OpOverload):
            raise CaptureError(
                "a higher-order operator or a kernel of the user's own cannot be captured"
            )
        if node.target is torch.ops.aten.copy_.default:
            return self._write(node)
        args, kwargs = self._arguments(node)
        self._check_devices(node)
        return self._operator(node, args, kwargs)

    def _operator(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        b = self.builder
        assert isinstance(node.target, torch._ops.OpOverload), "checked by the caller"
        b.node, b.expected = node, node.meta.get("val")
        b.hint, b.loc, b.scope = node_hint(node), source_line(node), module_path(node)
        emitted = len(b.ops)
        row = row_of(node.target)
        why = reason_for(node.target)
        if row is not None:
            try:
                return _fit(row(b, *args, **kwargs), b)
            except Unmodelled as reason:
                del b.ops[emitted:]
                why = str(reason)
        found = call_torch(b, node.target, args, kwargs, why)
        return found if isinstance(b.expected, (tuple, list)) else found[0]

    def _item(self, node: Node) -> Any:
        """One of several results; None for what is no tensor, and for None itself."""
        source, index = node.args
        assert isinstance(source, Node), "an item of a node's results"
        assert isinstance(index, int), "results are numbered"
        found = self.env[source]
        found = found[index] if isinstance(found, tuple) else None
        if found is None and node.users and isinstance(node.meta.get("val"), Tensor):
            raise CaptureError("a result is read that its operator does not give")
        return found

    def _number(self, val: Any) -> Any:
        match val:
            case torch.SymInt():
                return self.builder.sizes.dim(val)
            case torch.SymFloat():
                return Ratio(val.node.expr, val.node.shape_env)
            case torch.SymBool():
                return None  # only assertions take these
            case _:
                return val

    def _arguments(self, node: Node) -> tuple[list[Any], dict[str, Any]]:
        """What the operator is called with, positionally as far as its schema goes."""
        args = [self._resolve(a) for a in node.args]
        kwargs = {k: self._resolve(a) for k, a in node.kwargs.items()}
        assert isinstance(node.target, torch._ops.OpOverload), "checked by the caller"
        rest = [a for a in node.target._schema.arguments[len(args) :] if not a.kwarg_only]
        while any(a.name in kwargs for a in rest):
            first = rest.pop(0)
            args.append(kwargs.pop(first.name, first.default_value))
        return args, kwargs

    def _resolve(self, arg: Any) -> Any:
        match arg:
            case Node():
                return self.env[arg]
            case list() | tuple():
                return [self._resolve(a) for a in arg]
            case slice():
                raise CaptureError("a slice object stands in the graph")
            case torch.SymInt() | torch.SymFloat():
                return self._number(arg)
            case _:
                return arg

    def _check_devices(self, node: Node) -> None:
        """Refuse to leave the graph's device; a factory elsewhere is made on it anyway."""
        vals = node.meta.get("val")
        for val in vals if isinstance(vals, (tuple, list)) else (vals,):
            if not isinstance(val, Tensor) or val.device.type == self.builder.device.type:
                continue
            for source in node.all_input_nodes:
                read = source.meta.get("val")
                if isinstance(read, Tensor) and read.device.type != val.device.type:
                    raise CaptureError(f"moves a tensor from {read.device} to {val.device}")

    def _write(self, node: Node) -> Value:
        target, source = node.args[:2]
        if not isinstance(target, Node) or target not in self.params:
            raise CaptureError("a tensor that is no input is written in place")
        assert isinstance(source, Node), "what is written has been traced"
        param = self.params[target]
        b = self.builder
        b.hint, b.loc, b.scope = node_hint(node), source_line(node), module_path(node)
        value = b.broadcast(b.convert(self.env[source], param.dtype), param.shape)
        self.writes.append(Write(param, value, b.loc))
        return value

    # The end.

    def finish(
        self,
        writes: Mapping[int, str],
        fixed: Collection[int],
        aliases: Mapping[int, Node] | None,
    ) -> tuple[Graph, tuple[Result, ...]]:
        assert self.output is not None, "the graph has no output"
        (outputs,) = self.output.args
        returned = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        by_name = {node.name: value for node, value in self.params.items()}
        for position, name in writes.items():
            node = returned[position]
            assert isinstance(node, Node), "a mutation has been traced"
            self.writes.append(Write(by_name[name], self.env[node], source_line(node)))
        skipped = {*writes, *fixed}
        returned = [node for i, node in enumerate(returned) if i not in skipped]
        given = tuple(self.params.values())
        results = Results(self.builder, self.env, self.writes, given, aliases is not None)
        results.add(returned, aliases or {})
        mutated = {w.target for w in self.writes}
        params = (*self.params.values(), *self.constant_params.values())
        graph = results.graph(params)
        _check_symbols(graph, results.returned)
        return _without_weights(graph, mutated), tuple(results.returned)


def _fit(found: Any, b: Builder) -> Any:
    """A row's results with their traced shapes; if one has another dtype or size, refuse the row.

    Where torch knows two symbolic sizes to be equal and the IR does not, a reshape says so.
    """
    if isinstance(found, tuple):
        return tuple(_fit_one(v, t, b) for v, t in zip(found, b.expected, strict=True))
    return _fit_one(found, b.expected, b)


def _fit_one(value: Value | None, traced: Any, b: Builder) -> Value | None:
    if value is None or not isinstance(traced, Tensor):
        return value
    wanted = TensorType(name_of(traced.dtype), b.sizes.shape(traced.shape))
    if value.dtype != wanted.dtype or not _may_be_equal(value.shape, wanted.shape):
        raise Unmodelled(f"its row gives {value.type}, torch gives {wanted}")
    return b.reshape(value, wanted.shape)


def _may_be_equal(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether no dim is known to differ; torch may know equalities that the sizes do not show."""
    return len(a) == len(b) and not any(
        isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=True)
    )


def _check_symbols(graph: Graph, results: Sequence[Result]) -> None:
    """Every size must be readable from an input: a dim, or a size passed as a number."""
    known: set[str] = set()
    for param in graph.params:
        dims = param.shape if isinstance(param.type, TensorType) else (param.type.expr,)
        known |= {str(d) for d in dims}
    used: set[str] = set()
    for value in (*graph.params, *(r for op in graph.ops for r in op.results)):
        dims = value.shape if isinstance(value.type, TensorType) else (value.type.expr,)
        used |= free_sizes((*dims, *(value.strides or ())))
    for op in graph.ops:
        used |= free_sizes(_sizes_in(tuple(op.attrs.values())))
    for view in (r for r in results if isinstance(r, ResultView)):
        used |= free_sizes((*view.type.shape, *view.strides, view.offset))
    if missing := sorted(used - known):
        raise CaptureError(
            f"size {missing[0]} cannot be read from any input: it depends on data, or only "
            "stands inside other sizes"
        )


def _sizes_in(attr: Any) -> Iterator[Dim]:
    if isinstance(attr, tuple):
        for part in attr:
            yield from _sizes_in(part)
    elif isinstance(attr, sympy.Expr):
        yield attr


def _without_weights(graph: Graph, mutated: Collection[Value]) -> Graph:
    """What the graph itself overwrites is no weight, even if its address is static."""
    changed = {v: replace(v, weight=False) for v in mutated if v.weight}
    return _renamed(graph, changed) if changed else graph


def _renamed(graph: Graph, new: Mapping[Value, Value]) -> Graph:
    def swap(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(new.get(v, v) for v in values)

    ops = tuple(replace(op, operands=swap(op.operands)) for op in graph.ops)
    return replace(graph, params=swap(graph.params), ops=ops, outputs=swap(graph.outputs))


def device_of(gm: GraphModule) -> torch.device:
    """The device a traced graph computes on: CPU scalars beside CUDA tensors do not count."""
    first: torch.device | None = None
    for node in gm.graph.nodes:
        val = node.meta.get("val")
        if not isinstance(val, Tensor):
            continue
        if val.device.type != "cpu":
            return val.device
        first = first or val.device
    return first or torch.device("cpu")
