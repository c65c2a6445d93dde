"""`effcomp explain`: what the compiler does to a model, as text, page or data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import (
    Device,
    Dtype,
    Dynamic,
    From,
    Inputs,
    Options,
    PipelineText,
    Plugins,
    Sizes,
    Subject,
    Targets,
)

if TYPE_CHECKING:
    from effcomp.cli.sources import Source
    from effcomp.config import Config
    from effcomp.report.schema import Report

__all__ = ["explain"]

Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Write the report as one page of HTML."),
]
ModelExplorer = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Write a graph for Model Explorer (JSON)."),
]


def explain(
    subject: Subject = None,
    html: Html = None,
    model_explorer: ModelExplorer = None,
    target: Targets = None,
    dynamic: Dynamic = None,
    pipeline: PipelineText = None,
    option: Options = None,
    plugin: Plugins = None,
    library: From = None,
    inputs: Inputs = None,
    size: Sizes = None,
    dtype: Dtype = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Report what the compiler did: coverage, passes, refusals, kernels, costs, memory.

    An artifact tells what was done when it was compiled. A model is compiled the way torch.compile
    does, and called, so that graph breaks show; with --target, --dynamic, or as an exported program
    it is planned ahead of time, and nothing of it runs.
    """
    from effcomp.cli.console import write_text

    if subject is not None and subject.endswith(".eff"):
        report = _of_artifact(Path(subject))
    else:
        from effcomp.cli.console import status
        from effcomp.cli.settings import config_of, parse_sizes
        from effcomp.cli.sources import resolve
        from effcomp.cli.user_code import load_named_plugins

        load_named_plugins(plugin)
        config = config_of(option or (), pipeline)
        with status("loading the model"):
            source = resolve(
                subject, library, inputs=inputs, sizes=parse_sizes(size or ()), dtype=dtype,
                device=device, weights=not (target or dynamic),
            )  # fmt: skip
        report = _of_source(source, target, dynamic or [], config)
    if html is not None:
        from effcomp.report.html import render

        write_text(html, render(report))
    if model_explorer is not None:
        from json import dumps

        from effcomp.report.model_explorer import export

        write_text(model_explorer, dumps(export(report)))
    if json:
        print(report.to_json())
    elif html is None and model_explorer is None:
        print(report)


def _of_artifact(path: Path) -> "Report":
    from effcomp.errors import ArtifactError
    from effcomp.plan.container import read_artifact
    from effcomp.report.schema import Report

    text = read_artifact(path).report_text
    if not text:
        raise ArtifactError(f"{path} holds no report")
    return Report.from_json(text)


def _of_source(
    source: "Source", targets: list[str] | None, dynamic: list[str], config: "Config"
) -> "Report":
    from torch.export import ExportedProgram

    if targets or dynamic or isinstance(source.model, ExportedProgram):
        from dataclasses import replace

        from effcomp.cli.building import plan_source
        from effcomp.reporting import source_lines

        report = plan_source(source, dynamic, targets, config).report()
        return replace(report, sources=source_lines(report.graphs, source.model))
    import torch

    from effcomp.explanation import explain_call

    options = config.model_dump(exclude_defaults=True)
    with torch.no_grad():
        return explain_call(source.model, source.args, source.kwargs, options)
