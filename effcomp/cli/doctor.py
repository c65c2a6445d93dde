"""`effcomp doctor`: what this machine can do."""

from typing import TYPE_CHECKING

import typer

from effcomp.cli.command import Json
from effcomp.cli.exits import ExitCode

if TYPE_CHECKING:
    from effcomp.cli.checkup import Finding

__all__ = ["doctor"]

_MARKS = {"ok": ("ok", "green"), "missing": ("--", "yellow"), "broken": ("no", "bold red")}


def doctor(json: Json = False) -> None:
    """Say what this machine can do: versions, devices, compilers, extras, targets, cache.

    Ends with 1 where something is broken that effcomp cannot work without.
    """
    from effcomp.cli.checkup import examine
    from effcomp.cli.console import print_json

    findings = examine()
    if json:
        print_json({finding.name: finding.data() for finding in findings})
    else:
        _show(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(ExitCode.CHECK)


def _show(findings: "list[Finding]") -> None:
    from rich.table import Table
    from rich.text import Text

    from effcomp.cli.console import out

    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        mark, colour = _MARKS[finding.state]
        detail = f"{finding.detail}\n{finding.hint}" if finding.hint else finding.detail
        shown.add_row(Text(mark, colour), Text(finding.name, "bold"), detail)
    out().print(shown)
