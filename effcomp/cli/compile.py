"""`effcomp compile`: a model becomes an artifact, or shows what it would become."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import (
    Device,
    Dtype,
    Dynamic,
    From,
    Inputs,
    Model,
    Options,
    Output,
    PipelineText,
    Plugins,
    Sizes,
    Targets,
)

if TYPE_CHECKING:
    from effcomp.ahead import Planned

__all__ = ["compile"]

WeightsMode = Literal["embed", "reference", "omit"]
Weights = Annotated[
    WeightsMode,
    typer.Option(
        help="Put the weights into the artifact, refer to the safetensors files that hold them, or "
        "leave them out.",
    ),
]
WeightFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--weight-file",
        metavar="FILE",
        dir_okay=False,
        help="A safetensors file to refer to; by default those that --from has loaded. Repeatable.",
    ),
]
Emit = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="Write text instead of an artifact: ir, ir:PASS, plan, triton, or mlir:DIALECT "
        "(torch, linalg, tosa, stablehlo).",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only say what would be done: coverage, partition, memory, estimated time.",
    ),
]


def compile(
    model: Model = None,
    output: Output = None,
    target: Targets = None,
    dynamic: Dynamic = None,
    pipeline: PipelineText = None,
    option: Options = None,
    plugin: Plugins = None,
    weights: Weights = "embed",
    weight_file: WeightFiles = None,
    emit: Emit = None,
    dry_run: DryRun = False,
    library: From = None,
    inputs: Inputs = None,
    size: Sizes = None,
    dtype: Dtype = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Compile a model ahead of time into an artifact that runs without the model's code.

    MODEL is an exported program, or a function that returns a module and example arguments:
    (module, args) or (module, args, kwargs). Without --target it is compiled for the device that
    its weights are on.
    """
    from effcomp.cli.building import plan_source
    from effcomp.cli.console import status
    from effcomp.cli.emitting import emit_text
    from effcomp.cli.settings import config_of, parse_sizes
    from effcomp.cli.sources import resolve
    from effcomp.cli.user_code import load_named_plugins
    from effcomp.errors import ConfigError

    if output is None and emit is None and not dry_run:
        raise ConfigError("say where to write the artifact: -o FILE.eff, or --dry-run, or --emit")
    load_named_plugins(plugin)
    config = config_of(option or (), pipeline)
    with status("loading the model"):
        source = resolve(
            model, library, inputs=inputs, sizes=parse_sizes(size or ()), dtype=dtype,
            device=device, weights=not dry_run and emit is None,
        )  # fmt: skip
    files = weight_file or source.files
    if weights == "reference" and not files:
        raise ConfigError("--weights reference: name the files that hold them with --weight-file")
    planned = plan_source(source, dynamic or (), target, config)
    if dry_run:
        _show_plans(planned, json)
    elif emit is not None:
        emit_text(planned, emit, output)
    else:
        assert output is not None, "checked above"
        _save(planned, output, weights, files, json)


def _show_plans(planned: "Planned", json: bool) -> None:
    from effcomp.cli.console import print_json
    from effcomp.cli.dry_run import prediction, show_prediction

    found = [prediction(record, planned.sizes) for record in planned.records]
    if json:
        print_json({"prediction": True, "name": planned.name, "targets": found})
    else:
        show_prediction(planned.name, found)


def _save(
    planned: "Planned", output: Path, weights: WeightsMode, files: Sequence[Path], json: bool
) -> None:
    import time

    from effcomp.ahead import finish
    from effcomp.cli.console import out, print_json, size_text
    from effcomp.cli.inspect import described, summary

    start = time.perf_counter()
    finish(planned, prepare=False).save(output, weights=weights, files=files)
    seconds = time.perf_counter() - start
    data: dict[str, Any] = {"path": str(output), "seconds": seconds, **described(output)}
    if json:
        print_json(data)
    else:
        out().print(f"{output}: {size_text(output.stat().st_size)}, compiled in {seconds:.1f} s")
        out().print(summary(data))
