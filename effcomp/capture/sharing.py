"""Who shares memory in a traced graph, by what its operators promise and its fake tensors show."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from effcomp.capture.dtypes import name_of
from effcomp.capture.sizes import Sizes
from effcomp.ir import Dim, TensorType
from effcomp.ir.dims import dim


def owner_of(node: Node) -> Node:
    """The node whose memory a traced tensor is: views look at their first argument's."""
    while _is_view(node):
        assert isinstance(node.args[0], Node), "a view looks at a tensor"
        node = node.args[0]
    return node


def shared_roots(
    returned: Sequence[Any], aliases: Mapping[int, Node], sizes: Sizes
) -> dict[int, Node]:
    """For each result that is a view, by position: the node whose memory it has to be.

    That is an input for views of inputs, and for `aliases`, which look at what an input becomes;
    else a node that several results look at.
    """
    roots: dict[int, Node] = {}
    viewers: dict[Node, list[int]] = {}
    for position, node in enumerate(returned):
        if not (isinstance(node, Node) and isinstance(node.meta.get("val"), Tensor)):
            continue
        owner = owner_of(node)
        root = aliases.get(position, owner)
        if not _is_seen_in(node, owner, sizes):
            continue
        if root.op == "placeholder":
            roots[position] = root
        else:
            viewers.setdefault(root, []).append(position)
    for root, positions in viewers.items():
        if len(positions) > 1 and _fills_its_memory(root, sizes):
            roots.update((position, root) for position in positions)
    return roots


def seen_in(node: Node, sizes: Sizes) -> tuple[TensorType, tuple[Dim, ...], Dim]:
    """Type and strides of a traced tensor, and where it begins in the memory of its owner."""
    traced, owner = node.meta["val"], owner_of(node).meta["val"]
    offset = dim(sizes.dim(traced.storage_offset()) - sizes.dim(owner.storage_offset()))
    kind = TensorType(name_of(traced.dtype), sizes.shape(traced.shape))
    return kind, sizes.shape(traced.stride()), offset


def _is_seen_in(node: Node, owner: Node, sizes: Sizes) -> bool:
    """Whether `seen_in` can tell: an offset counts elements of one type."""
    traced, whole = node.meta["val"], owner.meta.get("val")
    if not isinstance(whole, Tensor) or _storage(traced) != _storage(whole):
        return False
    return traced.dtype is whole.dtype or sizes.dim(whole.storage_offset()) == 0


def _fills_its_memory(node: Node, sizes: Sizes) -> bool:
    """Whether a tensor of its own layout is all that its views look at."""
    traced = node.meta["val"]
    steps = zip(sizes.shape(traced.shape), sizes.shape(traced.stride()), strict=True)
    repeats = any(step == 0 and size != 1 for size, step in steps)
    return sizes.dim(traced.storage_offset()) == 0 and not repeats


def _is_view(node: Node) -> bool:
    """By what its operator promises, or does all the same (_unsafe_view)."""
    target, source = node.target, node.args[0] if node.args else None
    if not isinstance(source, Node):
        return False
    if target is operator.getitem:
        return _is_view(source)
    if not isinstance(target, torch._ops.OpOverload):
        return False
    returns = target._schema.returns
    if returns and returns[0].alias_info is not None:
        return True
    made, given = _first_tensor(node), _first_tensor(source)
    return made is not None and given is not None and _storage(made) == _storage(given)


def _first_tensor(node: Node) -> Tensor | None:
    val = node.meta.get("val")
    found = val[0] if isinstance(val, (list, tuple)) and val else val
    return found if isinstance(found, Tensor) else None


def _storage(tensor: Tensor) -> int:
    """Tensors that share memory have one storage, fake ones too."""
    return tensor.untyped_storage()._cdata
