"""Which dialects take which models: docs/reference/mlir.md says it, and it is so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from effcomp.ahead import exporting
from effcomp.capture.exported import capture_exported
from effcomp.mlir import DIALECTS, dialects_of
from tests.models.zoo import ZOO

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "mlir.md"
# torch.export does not take a module that keeps its cache in no buffer.
NAMES = [name for name in ZOO if name != "llama_decode"]
CHECKED = ["qwen_moe", "vit"]  # the whole table takes most of a minute


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With --update-golden every line of the table is written anew."""
    if "name" in metafunc.fixturenames:
        every = metafunc.config.getoption("--update-golden")
        metafunc.parametrize("name", NAMES if every else CHECKED)


def row_of(name: str) -> str:
    """The model's line of the table."""
    entry = ZOO[name]
    program = exporting.export(entry.build(torch.float32), (), entry.inputs(), None)
    taken = dialects_of(capture_exported(program).graph)
    return f"| {name} | {' | '.join('yes' if d in taken else '' for d in DIALECTS)} |"


def test_the_page_tells_which_dialects_take_a_model(
    name: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("torch_mlir", reason="needs torch-mlir: pip install 'effcomp[mlir]'")
    lines, row = PAGE.read_text().splitlines(), row_of(name)
    if request.config.getoption("--update-golden"):
        kept = [line for line in lines if not line.startswith(f"| {name} |")]
        at = max(i for i, line in enumerate(kept) if line.startswith("| "))
        PAGE.write_text("\n".join([*kept[: at + 1], row, *kept[at + 1 :]]) + "\n")
        return
    assert row in lines, f"{PAGE.name} differs; pytest --update-golden writes it"
