"""Options that several commands take, declared once so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from effcomp.errors import nearest
from effcomp.target import TARGETS

__all__ = [
    "Artifact",
    "Device",
    "Dtype",
    "Dynamic",
    "From",
    "Inputs",
    "Model",
    "OneTarget",
    "Options",
    "Output",
    "PipelineText",
    "Plugins",
    "Sizes",
    "Subject",
    "Targets",
]


def _known_target(name: str | None) -> str | None:
    if name is not None and name not in TARGETS:
        raise typer.BadParameter(f"no target {name!r}; {nearest(name, TARGETS)}")
    return name


def _known_targets(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        _known_target(name)
    return names


def _complete_target() -> list[str]:
    return list(TARGETS)


OneTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        callback=_known_target,
        autocompletion=_complete_target,
        help=f"What to compile for: {', '.join(TARGETS)}.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        callback=_known_targets,
        autocompletion=_complete_target,
        help=f"What to compile for, repeatable: {', '.join(TARGETS)}.",
    ),
]
PipelineText = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        "-p",
        metavar="PASSES",
        help="Passes to run, such as 'canonicalize,fold-constants{max_bytes=0}'.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Write here."),
]

_SOURCE = "The model"

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="MODEL.pt2, MODULE:FACTORY or FILE.py:FACTORY.",
    ),
]
Subject = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL|FILE.eff",
        show_default=False,
        help="An artifact, or MODEL.pt2, MODULE:FACTORY or FILE.py:FACTORY.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="LIBRARY:PATH",
        rich_help_panel=_SOURCE,
        help="Instead of MODEL: a folder or hub name, as diffusers:PATH#transformer or "
        "transformers:PATH.",
    ),
]
Inputs = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        rich_help_panel=_SOURCE,
        help="Example arguments by name, a safetensors file.",
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="NAME=N",
        rich_help_panel=_SOURCE,
        help="A size of the arguments made up for --from, such as batch=1; repeatable.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE", rich_help_panel=_SOURCE, help="Cast the model: f32, bf16 or f16."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="Where to put it: cpu, cuda or cuda:1."),
]
Dynamic = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIZES",
        help="Sizes that may change, as x:0=1..64 or x:0,y:0=1..64; repeatable.",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of torch.compile's, such as cuda_graphs=off; repeatable.",
    ),
]
Artifact = Annotated[
    Path, typer.Argument(metavar="FILE.eff", show_default=False, help="A compiled artifact.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="Import this first: a module or FILE.py that registers passes and ops. Repeatable; "
        "installed plugins are found by themselves.",
    ),
]
