"""From an exported program's call to a signature: containers, constants, names and size ranges."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.utils._pytree import TreeSpec

from effcomp.capture import Captured
from effcomp.errors import CaptureError
from effcomp.ir import Dim, SizeType, TensorType, Value
from effcomp.ir.dims import print_dim
from effcomp.plan.schema import Expr
from effcomp.plan.signature import (
    ConstantTree,
    DictTree,
    InputSpec,
    LeafTree,
    ListTree,
    RecordTree,
    Signature,
    SizeRange,
    Tree,
)

__all__ = ["positional_names", "signature_of"]

_PLAIN = (bool, int, float, str, type(None))


def positional_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments that a function takes by position."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds)


def _exported_names(program: ExportedProgram) -> tuple[str, ...]:
    """Names of the arguments as torch.export noted them, positional ones first."""
    root = next((entry for entry in program.module_call_graph if entry.fqn == ""), None)
    names = root.signature.forward_arg_names if root and root.signature else None
    return tuple(names or ())


def signature_of(
    program: ExportedProgram, captured: Captured, model: nn.Module | ExportedProgram
) -> Signature:
    """How the exported model is called. Raises CaptureError for calls that data cannot describe."""
    leaves, params = _input_leaves(program, captured)
    spec = program.call_spec.in_spec
    assert spec is not None, "an exported program says how it is called"
    given, named = _children(spec)
    if isinstance(model, nn.Module):
        positional = positional_names(model.forward)
    else:
        positional = _exported_names(model)[: len(_children(given))]
    flat = iter(leaves)
    args = tuple(_tree(child, flat) for child in _children(given))
    names = tuple(map(str, named.context or ()))
    kwargs = {name: _tree(child, flat) for name, child in zip(names, _children(named), strict=True)}
    written = {
        s.target
        for s in program.graph_signature.output_specs
        if s.kind is OutputKind.USER_INPUT_MUTATION
    }
    paths = [*(_paths(tree, _name(positional, i)) for i, tree in enumerate(args))]
    paths += [_paths(tree, name) for name, tree in kwargs.items()]
    labels = {index: label for found in paths for index, label in found}
    inputs = tuple(
        _input_spec(labels[index], value, name in written)
        for index, (name, value) in enumerate(params)
    )
    return Signature(args, kwargs, _result(program), inputs, positional, _ranges(program, captured))


def _input_leaves(
    program: ExportedProgram, captured: Captured
) -> tuple[list[Tree], list[tuple[str, Value]]]:
    """What stands at each leaf of the call, and the graph's params that are inputs of it."""
    leaves: list[Tree] = []
    inputs: list[tuple[str, Value]] = []
    params = iter(captured.graph.params)
    for spec in program.graph_signature.input_specs:
        if isinstance(spec.arg, ConstantArgument):
            if not isinstance(spec.arg.value, _PLAIN):
                raise CaptureError(
                    f"argument {spec.arg.name!r} is {spec.arg.value!r}: an artifact records "
                    "numbers, texts and None"
                )
            leaves.append(ConstantTree(spec.arg.value))
            continue
        param = next(params)
        if spec.kind is InputKind.USER_INPUT:
            leaves.append(LeafTree(len(inputs)))
            inputs.append((spec.arg.name, param))
    return leaves, inputs


def _result(program: ExportedProgram) -> Tree:
    leaves: list[Tree] = []
    count = 0
    for spec in program.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            continue
        if isinstance(spec.arg, ConstantArgument):
            leaves.append(ConstantTree(spec.arg.value))
        else:
            leaves.append(LeafTree(count))
            count += 1
    spec = program.call_spec.out_spec
    assert spec is not None, "an exported program says what it returns"
    return _tree(spec, iter(leaves))


def _children(spec: TreeSpec) -> Sequence[TreeSpec]:
    return spec.children() if hasattr(spec, "children") else spec.children_specs


def _tree(spec: TreeSpec, leaves: Any) -> Tree:
    if spec.is_leaf():
        return next(leaves)
    items = tuple(_tree(child, leaves) for child in _children(spec))
    kind, context = spec.type, spec.context
    if kind in (list, tuple):
        return ListTree("list" if kind is list else "tuple", items)
    if kind is not None and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return RecordTree(kind.__qualname__, tuple(kind._fields), items)  # pyright: ignore[reportAttributeAccessIssue]
    keys = _keys(context, len(items))
    if kind is not None and kind.__module__ in ("builtins", "collections") and keys is not None:
        if not all(isinstance(key, _PLAIN) for key in keys):
            raise CaptureError(f"a dict has the keys {keys}: an artifact records texts and numbers")
        return DictTree(tuple(keys), items)
    name = "unknown" if kind is None else f"{kind.__module__}.{kind.__qualname__}"
    fields = tuple(map(str, keys if keys is not None else range(len(items))))
    return RecordTree(name, fields, items)


def _keys(context: Any, count: int) -> Sequence[Any] | None:
    """Field names, which classes register with torch in their context, or in a list in it."""
    for found in (context, *(context if isinstance(context, (list, tuple)) else ())):
        if not isinstance(found, (list, tuple)) or len(found) != count:
            continue
        if all(isinstance(key, _PLAIN) for key in found):
            return found
    return None


def _name(positional: Sequence[str], index: int) -> str:
    return positional[index] if index < len(positional) else f"args[{index}]"


def _paths(tree: Tree, name: str) -> list[tuple[int, str]]:
    """The inputs in a tree, each with the way to it: `cache['keys'][0]`."""
    match tree:
        case LeafTree(index=index):
            return [(index, name)]
        case ConstantTree():
            return []
        case ListTree(items=items):
            pairs = [(f"{name}[{i}]", item) for i, item in enumerate(items)]
        case DictTree(keys=keys, items=items) | RecordTree(keys=keys, items=items):
            pairs = [(f"{name}[{key!r}]", item) for key, item in zip(keys, items, strict=True)]
    return [found for path, item in pairs for found in _paths(item, path)]


def _input_spec(name: str, value: Value, mutated: bool) -> InputSpec:
    if isinstance(value.type, SizeType):
        return InputSpec(name, "", (_expr(value.type.expr),))
    return InputSpec(name, value.dtype, tuple(map(_expr, value.shape)), mutated)


def _expr(dim: Dim) -> Expr:
    return dim if isinstance(dim, int) else print_dim(dim)


def _ranges(program: ExportedProgram, captured: Captured) -> dict[str, SizeRange]:
    """What torch.export found, or was told, that sizes may be; by their names in the graph."""
    known: Mapping[Any, Any] = program.range_constraints
    found = {name: known.get(size.node.expr) for name, size in _sizes(program, captured)}
    return {
        name: SizeRange(int(limits.lower), _bound(limits.upper))
        for name, limits in found.items()
        if limits is not None
    }


def _sizes(program: ExportedProgram, captured: Captured) -> Iterator[tuple[str, torch.SymInt]]:
    """Sizes by their names in the graph, and as torch traced them."""
    placeholders = {n.name: n for n in program.graph.find_nodes(op="placeholder")}
    params = iter(captured.graph.params)
    for spec in program.graph_signature.input_specs:
        if isinstance(spec.arg, ConstantArgument):
            continue
        param, traced = next(params), placeholders[spec.arg.name].meta.get("val")
        dims = param.shape if isinstance(param.type, TensorType) else (param.type.expr,)
        sizes = traced.shape if isinstance(traced, torch.Tensor) else (traced,)
        for dim, size in zip(dims, sizes, strict=True):
            if isinstance(dim, sympy.Symbol) and isinstance(size, torch.SymInt):
                yield dim.name, size


def _bound(value: Any) -> int | None:
    """A number, unless it only says that an int64 has an end."""
    return int(value) if value.is_Integer and int(value) < 2**62 else None
