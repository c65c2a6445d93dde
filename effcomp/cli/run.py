"""`effcomp run`: call an artifact."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import Artifact, Device

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["run"]

Inputs = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Arguments by name, a safetensors file."),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", dir_okay=False, help="Write results as safetensors."
    ),
]
Random = Annotated[bool, typer.Option("--random", help="Make arguments up from the signature.")]
Seed = Annotated[int, typer.Option(metavar="N", help="What random arguments are drawn from.")]
InputSizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size", metavar="NAME:DIM=N", help="A size of random arguments, as x:0=8; repeatable."
    ),
]

Weights = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        rich_help_panel="Weights",
        help="Run with these weights instead, safetensors; repeatable.",
    ),
]
Lora = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        rich_help_panel="Weights",
        help="Run with a low-rank adapter, safetensors.",
    ),
]
LoraScale = Annotated[
    float, typer.Option(metavar="X", rich_help_panel="Weights", help="How much of the adapter.")
]


def run(
    artifact: Artifact,
    inputs: Inputs = None,
    output: Results = None,
    random: Random = False,
    seed: Seed = 0,
    size: InputSizes = None,
    weights: Weights = None,
    lora: Lora = None,
    lora_scale: LoraScale = 1.0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Load an artifact, call it once, and describe or write what it returns.

    Inputs have the names of the model's parameters, with dots into containers: cache.keys.0.
    Results are named 'output', by position, or by the keys of what the model returns.
    """
    from effcomp.cli.artifact_inputs import made_up_inputs, parse_input_sizes, read_inputs
    from effcomp.cli.console import note, out, print_json, table
    from effcomp.cli.devices import device_named
    from effcomp.cli.tensor_files import write_tensors
    from effcomp.errors import ConfigError
    from effcomp.runtime.opening import load

    if random == (inputs is not None):
        raise ConfigError("give the arguments with --inputs FILE, or let them be made up: --random")
    if size and not random:
        raise ConfigError("--size goes with --random")
    start = time.perf_counter()
    where = device_named(device) if device else None
    model = load(artifact, where, weights=weights or None)
    if lora is not None:
        model.set_lora(lora, lora_scale)
    loaded = time.perf_counter()
    if inputs is not None:
        args, kwargs = read_inputs(inputs, model.signature, model.device)
    else:
        sizes = parse_input_sizes(size or ())
        args, kwargs = made_up_inputs(model.signature, sizes, seed, model.device)
    called = time.perf_counter()
    results = _named(model(*args, **kwargs))
    seconds = {"load": loaded - start, "call": time.perf_counter() - called}
    if output is not None:
        write_tensors(output, results)
    for text in model.notes:
        note(text, "note")
    rows = [_described(name, tensor) for name, tensor in results.items()]
    if json:
        print_json({"results": rows, "seconds": seconds, "peak_bytes": model.peak_bytes})
        return
    columns = ("name", "dtype", "shape", "mean", "min", "max")
    shown = [[_text(row[column]) for column in columns] for row in rows]
    out().print(table(columns, shown, right=("mean", "min", "max")))
    out().print(
        f"\nloaded in {seconds['load']:.2f} s, first called in {seconds['call'] * 1e3:.1f} ms"
    )


def _named(returned: Any) -> "dict[str, Tensor]":
    """What a model returns as tensors by name; numbers become tensors."""
    import torch

    from effcomp.cli.tensor_files import flatten

    leaves = {name or "output": leaf for name, leaf in flatten(returned) if leaf is not None}
    return {name: torch.as_tensor(leaf).detach().cpu() for name, leaf in leaves.items()}


def _described(name: str, tensor: "Tensor") -> dict[str, Any]:
    from effcomp.dtypes import DTYPE_NAMES

    values = tensor.double() if tensor.numel() and not tensor.is_complex() else None
    return {
        "name": name,
        "dtype": DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)),
        "shape": list(tensor.shape),
        "mean": None if values is None else values.mean().item(),
        "min": None if values is None else values.min().item(),
        "max": None if values is None else values.max().item(),
    }


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
