"""Runs commands in this process, as a shell would see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from effcomp.cli import app

ROOT = Path(__file__).parents[2]
PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "TERMINAL_WIDTH": "100"}


@dataclass(frozen=True)
class Called:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """stdout, as the one JSON document that it has to be."""
        return json.loads(self.out)


def call(*args: object, stdin: str | None = None) -> Called:
    """Run `effcomp args`."""
    found = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, env=PLAIN)
    return Called(found.exit_code, found.stdout, found.stderr)


def succeed(*args: object, stdin: str | None = None) -> Called:
    """Run `effcomp args`, which have to work."""
    called = call(*args, stdin=stdin)
    assert called.code == 0, f"{called.err}\n{called.out}"
    return called
