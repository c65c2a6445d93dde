"""Inputs for an artifact: from a file of named tensors, or made up from its signature."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from effcomp.cli.tensor_files import nested, read_tensors
from effcomp.dtypes import DTYPES
from effcomp.errors import ConfigError, SourceError, nearest
from effcomp.plan.expressions import evaluate
from effcomp.plan.signature import InputSpec, Signature

__all__ = ["input_name", "made_up_inputs", "parse_input_sizes", "read_inputs"]

_SIZE = re.compile(r"(?P<name>[\w.]+):(?P<dim>\d+)=(?P<size>\d+)")
_STEP = re.compile(r"\[(?:'([^']*)'|(\d+))\]")
_TYPICAL = 8  # for a size that nobody has given


def input_name(spec: InputSpec) -> str:
    """The name that files give an input: `cache.keys.0` for `cache['keys'][0]`."""
    name = spec.name.removeprefix("args")
    steps = _STEP.sub(lambda step: f".{step[1] if step[1] is not None else step[2]}", name)
    return steps.removeprefix(".")


def read_inputs(
    path: Path, signature: Signature, device: torch.device
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments from a safetensors file. Raises SourceError for names that it does not take."""
    tensors = read_tensors(path)
    known = [input_name(spec) for spec in signature.inputs]
    for name in tensors:
        if name not in known:
            raise SourceError(f"{path}: the model takes no input {name!r}; {nearest(name, known)}")
    if missing := [name for name in known if name not in tensors]:
        raise SourceError(f"{path}: input {missing[0]!r} is missing; it holds {', '.join(tensors)}")
    return _call({name: tensor.to(device) for name, tensor in tensors.items()})


def parse_input_sizes(texts: Sequence[str]) -> dict[tuple[str, int], int]:
    """Read `x:0=8` options. Raises ConfigError."""
    found: dict[tuple[str, int], int] = {}
    for text in texts:
        parts = _SIZE.fullmatch(text.replace(" ", ""))
        if parts is None:
            raise ConfigError(f"--size {text!r} is not NAME:DIM=N, such as x:0=8")
        found[parts["name"], int(parts["dim"])] = int(parts["size"])
    return found


def made_up_inputs(
    signature: Signature,
    wanted: Mapping[tuple[str, int], int],
    seed: int,
    device: torch.device,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments from the signature: floats are normal, integers 0 or 1, equal for equal seeds.

    `wanted` are sizes by input and dim. Raises ConfigError for sizes that it does not have, or that
    are fixed.
    """
    sizes = _sizes(signature, wanted)
    random = torch.Generator().manual_seed(seed)
    made: dict[str, Any] = {}
    for spec in signature.inputs:
        shape = [evaluate(size, sizes) for size in spec.shape]
        if not spec.dtype:
            made[input_name(spec)] = shape[0]
            continue
        dtype = DTYPES[spec.dtype]
        if dtype.is_floating_point or dtype.is_complex:
            drawn = torch.randn(shape, generator=random)
        else:
            drawn = torch.randint(0, 2, shape, generator=random)
        made[input_name(spec)] = drawn.to(dtype).to(device)
    return _call(made)


def _sizes(signature: Signature, wanted: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """A value for every size of the signature that can change."""
    inputs = {input_name(spec): spec for spec in signature.inputs}
    sizes: dict[str, int] = {}
    for (name, dim), size in wanted.items():
        if name not in inputs:
            raise ConfigError(f"the model takes no input {name!r}; {nearest(name, inputs)}")
        shape = inputs[name].shape
        place = f"--size {name}:{dim}={size}"
        if dim >= len(shape):
            raise ConfigError(f"{place}: {inputs[name]} has {len(shape)} dims")
        symbol = shape[dim]
        if not isinstance(symbol, str) or not symbol.isidentifier():
            raise ConfigError(f"{place}: that size of {inputs[name]} cannot be chosen")
        if sizes.setdefault(symbol, size) != size:
            raise ConfigError(f"{place}: {symbol} is {sizes[symbol]} by another --size")
    for name, allowed in signature.ranges.items():
        typical = max(allowed.least, _TYPICAL)
        sizes.setdefault(name, typical if allowed.most is None else min(typical, allowed.most))
    return sizes


def _call(named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Names that are numbers stand for positions."""
    tree = nested(named)
    positions = sorted(int(name) for name in tree if name.isdecimal())
    args = tuple(tree[str(position)] for position in positions)
    return args, {name: value for name, value in tree.items() if not name.isdecimal()}
