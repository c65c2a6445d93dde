"""The application: which commands there are, in the order a user meets them."""

from typing import Annotated

import typer

from effcomp.cli.bench import bench
from effcomp.cli.command import command
from effcomp.cli.compile import compile
from effcomp.cli.doctor import doctor
from effcomp.cli.exits import ExitCode
from effcomp.cli.explain import explain
from effcomp.cli.inspect import inspect
from effcomp.cli.ops import ops
from effcomp.cli.opt import opt
from effcomp.cli.passes import passes
from effcomp.cli.run import run
from effcomp.version import __version__

__all__ = ["app"]

_EXITS = f"Exit codes: {', '.join(f'{int(code)} {code.brief}' for code in ExitCode)}."

app = typer.Typer(
    name="effcomp",
    help="An optimizing compiler for PyTorch models.",
    epilog=_EXITS,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, commands in {
    "Compile and run": (compile, run, inspect, bench),
    "Look at the compiler": (explain, opt, passes, ops),
    "About this installation": (doctor,),
}.items():
    for one in commands:
        app.command(rich_help_panel=panel)(command(one))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"effcomp {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """An optimizing compiler for PyTorch models."""
    del version  # its callback has done the work
