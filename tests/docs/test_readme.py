"""What the README says can be done can be done."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.cli.calling import succeed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_its_code_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "model": nn.Linear(4, 4)}
    exec(block, names)
    assert names["model"](torch.randn(2, 4)).shape == (2, 4)


def test_its_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"`make ([\w-]+)`", README)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no make target {target}"
    scripts = re.findall(r"`python ([\w/.]+\.py)", README)
    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file(), f"no {script}"


def test_its_paths_exist() -> None:
    for path in re.findall(r"`((?:effcomp|docs|examples|benchmarks|tests)/[\w/.-]+)`", README):
        assert (ROOT / path).exists(), f"the README names {path}"


@pytest.mark.slow
def test_its_shell_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("effcomp")]
    assert lines
    for line in lines:
        succeed(*shlex.split(line)[1:])
    assert Path("drawn.safetensors").is_file()
