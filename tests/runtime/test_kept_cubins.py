"""Compiled kernels on disk: told apart, checked, dropped when there are too many."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from effcomp.errors import CacheWarning
from effcomp.plan.cubin import Cubin, LaunchFacts
from effcomp.runtime import kept_cubins
from effcomp.runtime.kept_cubins import KeptCubins
from effcomp.runtime.specialize import Specialized
from tests.runtime.plans import add_kernel

ADD = Specialized(add_kernel(), (0, 1, 2))
FACTS = LaunchFacts("digest", ADD.kernel.digest, ADD.divisible, "add", 90, 4, 0, ("*f32",))
CUBIN = Cubin(FACTS, bytes(range(256)))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(kept_cubins._VARIABLES):
            monkeypatch.delenv(name)


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    kept = KeptCubins(tmp_path / "cubins", "one")
    assert kept.read([ADD], 90) == {}
    kept.write({ADD: CUBIN})
    assert kept.read([ADD], 90) == {ADD: CUBIN}


def test_whatever_decides_the_code_tells_kernels_apart(tmp_path: Path) -> None:
    kept = KeptCubins(tmp_path, "one")
    kept.write({ADD: CUBIN})
    kernel = ADD.kernel
    others = (
        replace(ADD, divisible=(0,)),
        replace(ADD, kernel=replace(kernel, num_warps=8)),
        replace(ADD, kernel=replace(kernel, source=kernel.source + "#")),
        replace(ADD, kernel=replace(kernel, params=kernel.params[::-1])),
    )
    assert kept.read(others, 90) == {}
    assert kept.read([ADD], 89) == {}
    assert KeptCubins(tmp_path, "two").read([ADD], 90) == {}


def test_variables_of_triton_tell_kernels_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptCubins(tmp_path, "one")
    kept.write({ADD: CUBIN})
    tool = tmp_path / "ptxas"
    tool.write_text("first")
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tool))
    assert kept.read([ADD], 90) == {}
    kept.write({ADD: CUBIN})
    assert kept.read([ADD], 90) == {ADD: CUBIN}
    tool.write_text("another ptxas")
    assert kept.read([ADD], 90) == {}
    monkeypatch.delenv("TRITON_PTXAS_PATH")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert kept.read([ADD], 90) == {ADD: CUBIN}, "where files lie changes no code"


@pytest.mark.parametrize(
    "name", ["TRITON_KERNEL_DUMP", "TRITON_ALWAYS_COMPILE", "MLIR_ENABLE_DUMP"]
)
def test_whoever_watches_triton_sees_it_compile(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptCubins(tmp_path, "one")
    monkeypatch.setenv(name, "1")
    kept.write({ADD: CUBIN})
    assert not list(tmp_path.iterdir())
    assert kept.read([ADD], 90) == {}


def test_tritons_variables_are_all_known() -> None:
    from triton import knobs

    groups = (knobs.compilation, knobs.nvidia, knobs.language, knobs.runtime)
    declared = [getattr(knob, "key", None) for g in groups for knob in vars(type(g)).values()]
    names = [name for name in declared if isinstance(name, str)]
    assert "TRITON_DISABLE_LINE_INFO" in names
    assert [name for name in names if not name.startswith(kept_cubins._VARIABLES)] == []


@pytest.mark.parametrize("damage", [b"", b"no kernel", b"half"])
def test_a_damaged_kernel_is_compiled_again(tmp_path: Path, damage: bytes) -> None:
    kept = KeptCubins(tmp_path, "one")
    kept.write({ADD: CUBIN})
    (path,) = tmp_path.iterdir()
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2] if damage == b"half" else damage)
    with pytest.warns(CacheWarning, match="is compiled again"):
        assert kept.read([ADD], 90) == {}


def test_a_folder_that_cannot_be_written_only_warns(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    kept = KeptCubins(blocked, "one")
    assert kept.read([ADD], 90) == {}
    with pytest.warns(CacheWarning, match="cannot be kept"):
        kept.write({ADD: CUBIN})


def test_kernels_longest_unused_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptCubins(tmp_path, "one")
    other = replace(ADD, divisible=())
    kept.write({ADD: CUBIN})
    (old,) = tmp_path.iterdir()
    os.utime(old, (1, 1))
    monkeypatch.setattr(kept_cubins, "_LIMIT_BYTES", 800)
    kept.write({other: CUBIN})
    assert kept.read([ADD, other], 90) == {other: CUBIN}
