"""The size and naming rules, and nothing in the tree that only its author's machine knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "effcomp"
FILE_LINES = 600
FUNCTION_LINES = 60
EMPTY_NAMES = {"common", "helpers", "misc", "utils"}
TEXT = {".cfg", ".eff", ".ini", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
# An absolute path of a home, a mount or a scratch folder means nothing to another reader. The
# first letter stands in brackets so that this file does not contain what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(?:[w]ork|[r]oot|[h]ome/\w+|[o]pt/\w+|[t]mp/\w+)/")


def _python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _tracked_text() -> Iterator[Path]:
    run = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    names = run.stdout.split("\0") if run.returncode == 0 else []
    # An archive without its history has no list of tracked files: the sources are looked at.
    paths = [ROOT / name for name in names if name] or _python_files()
    for path in paths:
        if path.is_file() and (path.suffix in TEXT or path.name in {"Makefile", "run"}):
            yield path


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in _python_files()
        if (lines := path.read_text().count("\n")) > FILE_LINES
    }
    assert not long, f"more than {FILE_LINES} lines, split along their ideas: {long}"


def test_no_function_is_too_long() -> None:
    long: list[str] = []
    for path in _python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert not long, f"functions of more than {FUNCTION_LINES} lines:\n" + "\n".join(long)


def test_names_say_something() -> None:
    empty = [str(p.relative_to(ROOT)) for p in ROOT.glob("[!.]*/**/*.py") if p.stem in EMPTY_NAMES]
    assert not empty, f"names that say nothing: {empty}"


def test_no_machine_paths() -> None:
    leaks = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in _tracked_text()
        if (match := MACHINE_PATH.search(path.read_text(errors="replace")))
    ]
    assert not leaks, "paths of somebody's machine:\n" + "\n".join(leaks)
