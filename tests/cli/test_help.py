"""`--help` of every command reads as its golden; `--update-golden` writes what came out."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from effcomp.cli import app
from tests.cli.calling import succeed

GOLDENS = Path(__file__).parent / "goldens"
COMMANDS = ["", *typer.main.get_command(app).commands]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "effcomp")
def test_help(name: str, request: pytest.FixtureRequest) -> None:
    shown = succeed(*([name] if name else []), "--help").out
    text = "\n".join(line.rstrip() for line in shown.strip("\n").splitlines()) + "\n"
    path = GOLDENS / f"{name or 'effcomp'}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()


def test_there_is_no_golden_without_its_command() -> None:
    assert {path.stem for path in GOLDENS.glob("*.txt")} == {name or "effcomp" for name in COMMANDS}
