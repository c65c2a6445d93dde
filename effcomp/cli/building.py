"""From a source to plans: what compile, explain and bench have in common."""

import re
from collections.abc import Sequence
from typing import Any

import torch

from effcomp.ahead import Planned, plan_model
from effcomp.cli.console import status
from effcomp.cli.dynamic import DynamicSize, dynamic_shapes, parse_dynamic
from effcomp.cli.sources import Source
from effcomp.cli.tensor_files import flatten
from effcomp.config import Config
from effcomp.errors import CaptureError, ConfigError

__all__ = ["plan_source"]

_FIXED = re.compile(r"L\['(\w+)'\]\S*\.size\(\)\[(\d+)\]")


def plan_source(
    source: Source, dynamic: Sequence[str], targets: Sequence[str] | None, config: Config
) -> Planned:
    """Export, capture and plan a model for every target; no kernel is compiled."""
    sizes = parse_dynamic(dynamic)
    named = source.named_arguments()
    if sizes and isinstance(source.model, torch.export.ExportedProgram):
        raise ConfigError("an exported program says which of its sizes may change: leave --dynamic")
    shapes = dynamic_shapes(sizes, named)
    with status("exporting, capturing, running passes"):
        try:
            return plan_model(
                source.model, source.args, source.kwargs, dynamic_shapes=shapes, targets=targets,
                config=config,
            )  # fmt: skip
        except CaptureError as error:
            if fixed := _FIXED.findall(str(error)):
                raise ConfigError(_fixed_message(fixed, sizes, named)) from error
            if source.mode is not None:
                error.add_note(
                    "(only the model's configuration was read: its weights had no values; they are "
                    "loaded to compile it, without --dry-run and --emit)"
                )
            raise


def _fixed_message(
    fixed: Sequence[tuple[str, str]], sizes: Sequence[DynamicSize], named: dict[str, Any]
) -> str:
    """Say which sizes cannot vary alone, and which others are equal to them in the example."""
    places = list(dict.fromkeys(f"{name}:{dim}" for name, dim in fixed))
    asked = {f"{size.name}:{size.dim}" for size in sizes}
    tensors = {name: v for name, v in flatten(named) if isinstance(v, torch.Tensor)}
    values = {tensors[name].shape[int(dim)] for name, dim in fixed if name in tensors}
    equal = [
        f"{name}:{dim}"
        for name, tensor in tensors.items()
        for dim, size in enumerate(tensor.shape)
        if size in values and f"{name}:{dim}" not in asked
    ]
    text = (
        f"--dynamic: {', '.join(places)} cannot vary by itself: the model fixes it, "
        "by its own code or by being equal to a size that is fixed"
    )
    if not equal:
        return text
    bounds = str(sizes[0]).partition("=")[2]
    together = f"{','.join([*places, *equal])}={bounds}"
    return f"{text}. Others are equal to it in the example; vary all of them: --dynamic {together}"
