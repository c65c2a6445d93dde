"""Every line of docs/cli.md runs and prints what the page says; its exit codes are real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from effcomp.cli.exits import ExitCode
from tests.cli.calling import ROOT, call

PAGE = (ROOT / "docs" / "cli.md").read_text()


def _commands(text: str) -> list[tuple[str, str]]:
    """Each `$ command` of the page with what it is said to print."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            found.append((line, shown))
    return found


def _run(line: str) -> str:
    """Run a line as a shell would; `|` hands stdout on."""
    text: str | None = None
    for part in line.split(" | "):
        name, *args = shlex.split(part)
        assert name == "effcomp"
        called = call(*args, stdin=text)
        assert called.code == 0, f"{part}\n{called.err}"
        text = called.out
    assert text is not None
    return text


def _pattern(shown: str) -> str:
    """`...` stands for anything, in a line or for lines; runs of blanks are alike."""
    lines: list[str] = []
    for line in shown.replace("<BLANKLINE>", "").splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*?")
            continue
        parts = [r"\s+".join(map(re.escape, re.split(" +", part))) for part in line.split("...")]
        lines.append(".*".join(parts) + r"\s*\n")
    return "".join(lines)


def test_every_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```python\n(# my_model.py\n.*?)```", PAGE, re.DOTALL)
    Path("my_model.py").write_text(source)
    commands = _commands(PAGE)
    assert len(commands) > 15
    for line, shown in commands:
        printed = _run(line)
        text = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        assert re.fullmatch(_pattern(shown), text), f"$ {line}\n{text}"


def test_every_exit_code_is_listed() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(str(int(code)), code.meaning) for code in ExitCode]
