"""How a compiled model is called, as data: trees of arguments and results, checked names and sizes.

A tree says what Python containers stand around tensors. Containers of other libraries (the output
classes of diffusers and transformers) are records: their class is named for people to read, and
never looked up.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from effcomp.plan.schema import Expr

__all__ = [
    "ConstantTree",
    "DictTree",
    "InputSpec",
    "LeafTree",
    "ListTree",
    "RecordTree",
    "Signature",
    "SizeRange",
    "Tree",
    "leaves",
]

_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


@dataclass(frozen=True, config=_STRICT)
class LeafTree:
    """A tensor or a size: number `index` of the inputs, or of what the plan returns."""

    index: int
    kind: Literal["leaf"] = "leaf"


@dataclass(frozen=True, config=_STRICT)
class ConstantTree:
    """A Python constant that the model was compiled for, or that it always returns."""

    value: bool | int | float | str | None
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, config=_STRICT)
class ListTree:
    """A list or a tuple."""

    type: Literal["list", "tuple"]
    items: tuple["Tree", ...]
    kind: Literal["list"] = "list"


@dataclass(frozen=True, config=_STRICT)
class DictTree:
    """A dict with these keys, in this order."""

    keys: tuple[bool | int | float | str | None, ...]
    items: tuple["Tree", ...]
    kind: Literal["dict"] = "dict"


@dataclass(frozen=True, config=_STRICT)
class RecordTree:
    """An object of some class, as its fields. Taken as the object or as a dict; given as a dict."""

    type: str
    keys: tuple[str, ...]
    items: tuple["Tree", ...]
    kind: Literal["record"] = "record"


Tree = Annotated[
    LeafTree | ConstantTree | ListTree | DictTree | RecordTree, Field(discriminator="kind")
]


@dataclass(frozen=True, config=_STRICT)
class InputSpec:
    """One tensor of a call (`dtype`, `shape`), or one size (dtype ""); `name` is for messages."""

    name: str
    dtype: str
    shape: tuple[Expr, ...]
    mutated: bool = False

    def __str__(self) -> str:
        if not self.dtype:
            return f"{self.name}: a size"
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, config=_STRICT)
class SizeRange:
    """What a size may be; `most` is None where nothing bounds it."""

    least: int
    most: int | None = None


@dataclass(frozen=True, config=_STRICT)
class Signature:
    """The call that a model was compiled for.

    `positional` are the names of the leading arguments where they are known, so that they may be
    passed by name as well.
    """

    args: tuple[Tree, ...]
    kwargs: dict[str, Tree]
    result: Tree
    inputs: tuple[InputSpec, ...]
    positional: tuple[str, ...] = ()
    ranges: dict[str, SizeRange] = Field(default_factory=dict[str, SizeRange])

    def __str__(self) -> str:
        names = (self.positional[i] if i < len(self.positional) else "" for i in range(10**6))
        given = [_show(tree, name, self.inputs) for tree, name in zip(self.args, names)]  # noqa: B905
        given += [_show(tree, name, self.inputs) for name, tree in self.kwargs.items()]
        sizes = [_show_range(name, sizes) for name, sizes in self.ranges.items()]
        return f"({', '.join(given)})" + f" where {', '.join(sizes)}" * bool(sizes)


def leaves(tree: Tree) -> Iterator[LeafTree]:
    """The leaves of a tree, in order."""
    match tree:
        case LeafTree():
            yield tree
        case ConstantTree():
            return
        case ListTree(items=items) | DictTree(items=items) | RecordTree(items=items):
            for item in items:
                yield from leaves(item)


def _show_range(name: str, sizes: SizeRange) -> str:
    return f"{sizes.least} <= {name}" + (f" <= {sizes.most}" if sizes.most is not None else "")


def _show(tree: Tree, name: str, inputs: tuple[InputSpec, ...]) -> str:
    before = f"{name}: " if name else ""
    return before + _show_tree(tree, inputs)


def _show_tree(tree: Tree, inputs: tuple[InputSpec, ...]) -> str:
    def shown(items: tuple[Tree, ...]) -> list[str]:
        return [_show_tree(item, inputs) for item in items]

    match tree:
        case LeafTree(index=index):
            spec = inputs[index]
            return f"{spec.dtype}[{', '.join(map(str, spec.shape))}]" if spec.dtype else "a size"
        case ConstantTree(value=value):
            return repr(value)
        case ListTree(type="list", items=items):
            return f"[{', '.join(shown(items))}]"
        case ListTree(items=items):
            return f"({', '.join(shown(items))}{',' * (len(items) == 1)})"
        case DictTree(keys=keys, items=items) | RecordTree(keys=keys, items=items):
            pairs: list[tuple[Any, str]] = list(zip(keys, shown(items), strict=True))
            return f"{{{', '.join(f'{key!r}: {text}' for key, text in pairs)}}}"
