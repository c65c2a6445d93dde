"""Models without values: shapes and dtypes are all that planning asks for.

Tensors made inside are torch's fake ones, so that a model of any size fits anywhere.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_map

__all__ = ["in_dtype", "without_values"]


@contextlib.contextmanager
def without_values(dtype: torch.dtype) -> Iterator[FakeTensorMode]:
    """Tensors made inside have no values, and `dtype` where they are of the default one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode:
            yield mode
    finally:
        torch.set_default_dtype(before)


def in_dtype(tree: Any, dtype: torch.dtype | None) -> Any:
    """The floating-point tensors of nested containers as `dtype`, where one is given."""

    def cast(leaf: Any) -> Any:
        is_float = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        return leaf.to(dtype) if is_float and dtype is not None else leaf

    return tree_map(cast, tree)
