"""A call by its signature: arguments become the plan's inputs, what it returns gets its containers.

Whatever does not fit is refused with what the artifact takes, before anything runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import SUPPORTED_NODES

from effcomp.dtypes import DTYPE_NAMES
from effcomp.errors import ArtifactError
from effcomp.plan.expressions import evaluate
from effcomp.plan.signature import (
    ConstantTree,
    DictTree,
    InputSpec,
    LeafTree,
    ListTree,
    RecordTree,
    Signature,
    Tree,
    leaves,
)
from effcomp.runtime.dtypes import dtype_named

__all__ = ["Caller", "build_result"]


class Caller:
    """Takes calls apart and checks them."""

    def __init__(self, name: str, signature: Signature) -> None:
        self.name, self.signature = name, signature
        trees: list[tuple[str | int, Tree]] = [
            (self._key(i), tree) for i, tree in enumerate(signature.args)
        ]
        self._trees: dict[str | int, Tree] = {**dict(trees), **signature.kwargs}
        self._checks = tuple(map(_Check, signature.inputs))

    def inputs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The tensors and sizes of a call, in the order of the signature. Raises ArtifactError."""
        given = self._named(args, kwargs)
        found: list[Any] = [None] * len(self._checks)
        for key, tree in self._trees.items():
            if key not in given:
                if any(True for _ in leaves(tree)):
                    raise self._refused(f"argument {_label(key)} is missing")
            elif type(tree) is LeafTree:  # most of them: no label is made up for nothing
                found[tree.index] = given[key]
            else:
                self._take(tree, given[key], _label(key), found)
        sizes: dict[str, int] = {}
        for check, value in zip(self._checks, found, strict=True):
            if (why := check.bind(value, sizes)) is not None:
                raise self._refused(why)
        for check in self._checks:
            if (why := check.verify(sizes)) is not None:
                raise self._refused(why)
        for name, allowed in self.signature.ranges.items():
            value = sizes.get(name, allowed.least)
            if value < allowed.least or (allowed.most is not None and value > allowed.most):
                raise self._refused(f"size {name} is {value}")
        return found

    def _key(self, index: int) -> str | int:
        positional = self.signature.positional
        return positional[index] if index < len(positional) else index

    def _named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str | int, Any]:
        """Arguments by name where positions have names."""
        given: dict[str | int, Any] = {self._key(i): arg for i, arg in enumerate(args)}
        for name, arg in kwargs.items():
            if name in given:
                raise self._refused(f"argument {_label(name)} is given twice")
            given[name] = arg
        if unknown := [key for key in given if key not in self._trees]:
            raise self._refused(f"it was compiled without an argument {_label(unknown[0])}")
        return given

    def _take(self, tree: Tree, value: Any, label: str, found: list[Any]) -> None:
        match tree:
            case LeafTree(index=index):
                found[index] = value
                return
            case ConstantTree(value=wanted):
                if isinstance(value, torch.Tensor) or type(value) is not type(wanted):
                    same = False
                else:
                    same = value == wanted or (value != value and wanted != wanted)
                if not same:
                    raise self._refused(
                        f"{label} is {_show(value)}, it was compiled for {wanted!r}"
                    )
                return
            case _:
                pass
        for (path, item), child in zip(self._open(tree, value, label), tree.items, strict=True):
            self._take(child, item, path, found)

    def _open(
        self, tree: ListTree | DictTree | RecordTree, value: Any, label: str
    ) -> Iterator[tuple[str, Any]]:
        match tree:
            case ListTree(items=items):
                if not isinstance(value, (list, tuple)) or len(value) != len(items):
                    raise self._refused(f"{label} is {_show(value)}, not {len(items)} items")
                return ((f"{label}[{i}]", item) for i, item in enumerate(value))
            case DictTree(keys=keys):
                if not isinstance(value, Mapping) or set(value) != set(keys):
                    raise self._refused(f"{label} is {_show(value)}, not a dict of {list(keys)}")
                return ((f"{label}[{key!r}]", value[key]) for key in keys)
            case RecordTree(keys=keys):
                items = _fields(value, tree)
                if items is None:
                    raise self._refused(
                        f"{label} is {_show(value)}, not a {tree.type} or a dict of {list(keys)}"
                    )
                return ((f"{label}[{key!r}]", item) for key, item in zip(keys, items, strict=True))

    def _refused(self, why: str) -> ArtifactError:
        return ArtifactError(f"{why}; {self.name} takes {self.signature}")


def _fields(value: Any, tree: RecordTree) -> Sequence[Any] | None:
    """The fields of a record, given as a dict or as an object of its class."""
    if isinstance(value, Mapping):
        return [value[key] for key in tree.keys] if set(value) == set(tree.keys) else None
    if (node := SUPPORTED_NODES.get(type(value))) is not None:
        items = list(node.flatten_fn(value)[0])
        return items if len(items) == len(tree.keys) else None
    if all(hasattr(value, key) for key in tree.keys):
        return [getattr(value, key) for key in tree.keys]
    return None


class _Check:
    """What one input has to be."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._dtype = dtype_named(spec.dtype) if spec.dtype else None
        dims = tuple(enumerate(spec.shape))
        self._fixed = tuple((i, dim) for i, dim in dims if isinstance(dim, int))
        self._names = tuple((i, d) for i, d in dims if isinstance(d, str) and d.isidentifier())
        self._rest = tuple((i, d) for i, d in dims if isinstance(d, str) and not d.isidentifier())
        self._shape: Sequence[int] = ()

    def bind(self, value: Any, sizes: dict[str, int]) -> str | None:
        """Learn sizes from the value; the reason if it does not fit."""
        if self._dtype is None:
            if isinstance(value, bool) or not isinstance(value, int):
                return f"{self._spec.name} is {_show(value)}, not a size"
            self._shape = (value,)
        elif not isinstance(value, torch.Tensor):
            return f"{self._spec.name} is {_show(value)}, not a tensor"
        elif value.dtype is not self._dtype or value.ndim != len(self._spec.shape):
            return f"{self._spec.name} is {_show(value)}"
        else:
            self._shape = value.shape
        shape = self._shape
        for i, dim in self._fixed:
            if shape[i] != dim:
                return f"{self._spec.name} is {_show(value)}"
        for i, name in self._names:
            if sizes.setdefault(name, shape[i]) != shape[i]:
                return f"{self._spec.name} is {_show(value)}, but {name} is {sizes[name]} elsewhere"
        return None

    def verify(self, sizes: Mapping[str, int]) -> str | None:
        """The reason why a size that follows from others is wrong."""
        for i, expr in self._rest:
            if (wanted := evaluate(expr, sizes)) != self._shape[i]:
                return f"{self._spec.name} has {self._shape[i]} in dim {i}, not {expr} = {wanted}"
        return None


def build_result(tree: Tree, values: Sequence[Any]) -> Any:
    """What a call returns: the plan's results in their containers; records become dicts."""
    match tree:
        case LeafTree(index=index):
            return values[index]
        case ConstantTree(value=value):
            return value
        case ListTree(type=kind, items=items):
            built = [build_result(item, values) for item in items]
            return built if kind == "list" else tuple(built)
        case DictTree(keys=keys, items=items) | RecordTree(keys=keys, items=items):
            pairs = zip(keys, items, strict=True)
            return {key: build_result(item, values) for key, item in pairs}


def _label(key: str | int) -> str:
    return repr(key) if isinstance(key, str) else f"number {key}"


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{DTYPE_NAMES.get(value.dtype, value.dtype)}{list(value.shape)}"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return repr(value)
    return f"a {type(value).__name__}"
