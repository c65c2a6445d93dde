"""Options that several commands take, declared once so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from effcomp.errors import nearest
from effcomp.target import TARGETS

__all__ = ["OneTarget", "Output", "PipelineText", "Targets"]


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
        help="Passes to run, such as 'canonicalize,chunk{min_rows=256}'.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Write here."),
]
