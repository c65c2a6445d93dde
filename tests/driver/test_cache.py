"""The compile cache: a second process starts warm, a damaged entry is rebuilt, keys tell apart."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from effcomp import cache
from effcomp.errors import CacheWarning
from tests.driver.processes import printed_by
from tests.models.zoo import ZOO

ROOT = Path(__file__).parents[2]

# Counts how often plans are built, and says what came out.
PROGRAM = """
import json, torch
from effcomp import api, compiling
from tests.driver.processes import printed_by
from tests.models.zoo import ZOO

built, build = [], compiling.build_plan
def counting(*args):
    built.append(args[0].name)
    return build(*args)
compiling.build_plan = counting

entry = ZOO["bert"]
with torch.no_grad():
    output = torch.compile(entry.build(), backend=api.backend)(**entry.inputs()).logits
print(json.dumps({"built": len(built), "sum": output.double().sum().item()}))
"""

# Says which of our own modules a first call has imported.
FIRST_CALL = """
import json, sys, torch
import effcomp

model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.LayerNorm(8))
with torch.no_grad():
    torch.compile(model, backend=effcomp.backend)(torch.ones(2, 8))
print(json.dumps([name for name in sys.modules if name.startswith("effcomp.")]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFCOMP_CACHE_DIR", str(tmp_path))
    return tmp_path


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("plans/*.json"))


def _output(**options: object) -> torch.Tensor:
    torch._dynamo.reset()
    entry = ZOO["bert"]
    with torch.no_grad():
        model = torch.compile(entry.build(), backend="effcomp", options=options)
        return model(**entry.inputs()).logits


def test_a_second_process_starts_warm(folder: Path) -> None:
    cold = printed_by(PROGRAM)
    assert cold["built"] == 1
    (entry,) = _entries(folder)
    stamp = entry.stat().st_mtime_ns
    warm = printed_by(PROGRAM)
    assert warm["built"] == 0
    assert warm["sum"] == cold["sum"]
    assert entry.stat().st_mtime_ns > stamp, "a read entry counts as used"


def test_a_warm_first_call_imports_no_compiler(folder: Path) -> None:
    compiler = ("passes", "codegen", "reference", "rewrite", "compiling", "runtime.arena_order")

    def imported() -> set[str]:
        names = printed_by(FIRST_CALL)
        return {part for part in compiler if f"effcomp.{part}" in names}

    assert imported() == set(compiler)
    assert imported() == set()


def test_the_order_of_the_arena_is_not_looked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output() -> torch.Tensor:
        torch._dynamo.reset()
        entry, options = ZOO["sd3"], {"regions": "never"}
        with torch.no_grad():
            model = torch.compile(entry.build(), backend="effcomp", options=options)
            return model(**entry.inputs())[0]

    first = output()
    kept = [cache.read(entry.stem) for entry in _entries(folder)]
    assert any(plan is not None and plan.arena_order for plan in kept)
    monkeypatch.setattr("effcomp.runtime.arena_order.search_order", None)
    assert torch.equal(output(), first)


@pytest.mark.parametrize("damage", ["", "not a plan", "half"])
def test_a_damaged_entry_is_rebuilt(folder: Path, damage: str) -> None:
    first = _output()
    (entry,) = _entries(folder)
    text = entry.read_text()
    entry.write_text(text[: len(text) // 2] if damage == "half" else damage)
    with pytest.warns(CacheWarning, match="is rebuilt"):
        again = _output()
    assert torch.equal(first, again)
    assert entry.read_text() == text


def test_a_sound_entry_is_read_without_a_word(folder: Path) -> None:
    first = _output()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        assert torch.equal(_output(), first)
    assert len(_entries(folder)) == 1


def test_options_that_shape_a_plan_tell_entries_apart(folder: Path) -> None:
    _output()
    _output(disable=("canonicalize",))
    assert len(_entries(folder)) == 2
    _output(progress=False)
    assert len(_entries(folder)) == 2
    _output(cache=False)
    assert len(_entries(folder)) == 2


@pytest.mark.parametrize(
    "wrong", [{"disable": ("canonicalise",)}, {"pipeline": "canonicalize,canonicalise"}]
)
def test_a_wrong_name_is_an_error_also_where_plans_are_cached(
    folder: Path, wrong: dict[str, object]
) -> None:
    _output()
    for _ in range(2):
        with pytest.raises(BackendCompilerFailed, match=r"ConfigError: .*canonicalise"):
            _output(**wrong)
    assert len(_entries(folder)) == 1


def test_a_cache_that_cannot_be_written_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("EFFCOMP_CACHE_DIR", str(blocked))
    with pytest.warns(CacheWarning, match="cannot be written"):
        _output()


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EFFCOMP_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "effcomp"
    monkeypatch.setenv("EFFCOMP_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.cache_folder() == tmp_path / "mine"
