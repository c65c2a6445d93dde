"""What commands print: results to stdout, everything else to stderr, JSON where it is asked for."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "err",
    "note",
    "out",
    "pairs",
    "print_json",
    "size_text",
    "status",
    "table",
    "write_text",
    "written_aside",
]

_PIPED_WIDTH = 160  # a pipe has no width: tables are not cut at eighty columns there


def out() -> Console:
    """Where results go."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Where messages, warnings and timings go."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(is_terminal: bool, *, stderr: bool) -> Console:
    width = None if is_terminal else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def note(message: str, kind: Literal["", "note", "warning", "error"] = "") -> None:
    """One message to stderr; errors and warnings carry their kind in colour."""
    colour = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}.get(kind, "")
    text = Text.assemble((f"{kind}: " if kind else "", colour), message)
    err().print(text, soft_wrap=True)


@contextmanager
def status(what: str) -> Iterator[None]:
    """Show on a terminal what is going on, while it goes on."""
    if not sys.stderr.isatty():
        yield
        return
    with err().status(what):
        yield


def print_json(data: Any) -> None:
    """The one JSON document that a command with `--json` writes to stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> Table:
    """A plain table; the columns named in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def pairs(items: Mapping[str, str]) -> Table:
    """Names and values, one pair a line."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in items.items():
        made.add_row(name, value)
    return made


def size_text(count: int) -> str:
    """Bytes in the largest binary unit that leaves a whole number before the point."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("every count has a unit")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once everything is written.

    What fails or is interrupted leaves nothing; an OSError names `path`.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path | None, text: str) -> None:
    """Write to a file, whole or not at all; without one, to stdout."""
    if path is None:
        sys.stdout.write(text)
        return
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
