"""`effcomp ops`, `passes` and `doctor`; and how the whole of it starts."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from effcomp import __version__
from effcomp.cli import checkup
from effcomp.ir import SPECS
from effcomp.passes import PASSES
from tests.cli.calling import ROOT, call, succeed


def test_every_op_is_listed() -> None:
    shown = succeed("ops").out
    assert all(name in shown for name in SPECS)
    assert {op["name"] for op in succeed("ops", "--json").data} == set(SPECS)


def test_ops_can_be_chosen_by_name_and_namespace() -> None:
    shown = succeed("ops", "nn.linear").out
    assert "nn.linear(x, weight, [bias])" in shown
    assert "traits: pure" in shown
    names = [op["name"] for op in succeed("ops", "state", "--json").data]
    assert names == [name for name in sorted(SPECS) if name.startswith("state.")]
    wrong = call("ops", "nn.liner")
    assert (wrong.code, "did you mean 'nn.linear'?" in wrong.err) == (2, True)


def test_every_pass_is_listed() -> None:
    shown = succeed("passes").out
    assert all(name in shown for name in PASSES)
    assert [one["name"] for one in succeed("passes", "--json").data] == sorted(PASSES)
    wrong = call("passes", "csee")
    assert (wrong.code, "did you mean 'cse'?" in wrong.err) == (2, True)


def test_a_pass_shows_its_options() -> None:
    assert "option max_bytes = 16777216" in succeed("passes", "fold-constants").out


def test_a_target_shows_its_pipeline() -> None:
    data = succeed("passes", "--target", "cpu", "--json").data
    assert data["pipeline"].startswith("decompose{target=cpu},")
    shown = succeed("passes", "--target", "cpu").out
    assert f"pipeline: {data['pipeline']}" in shown


def test_the_doctor_looks_at_everything() -> None:
    data = succeed("doctor", "--json").data
    assert set(data) >= {"effcomp", "torch", "triton", "c++ compiler", "compile cache"}
    assert data["target cpu"]["detail"] == "compiles, runs"
    assert __version__ in succeed("doctor").out


def test_the_doctor_finds_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    h200 = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=140 << 30)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: h200)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    data = succeed("doctor", "--json").data
    assert data["gpu 0"]["detail"] == "NVIDIA H200, sm_90, 140.0 GiB"
    assert "gpu" not in data
    assert data["target cuda:90"]["detail"] == "compiles, runs"
    assert data["target cuda:100"]["detail"] == "compiles"


def test_the_doctor_fails_where_torch_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    called = call("doctor")
    assert called.code == 1
    assert "cannot be imported" in called.out


def test_an_extra_that_is_not_installed_says_how_to_get_it() -> None:
    found = checkup._extra("mlir", ("no_such_module", "no_such.sub"))
    assert found.state == "missing"
    assert 'pip install "effcomp[mlir]"' in found.hint


def test_help_loads_neither_torch_nor_the_compiler() -> None:
    code = (
        "import sys\nfrom effcomp.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'triton', 'sympy', 'numpy', 'networkx'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_the_version_and_a_wrong_command() -> None:
    assert succeed("--version").out == f"effcomp {__version__}\n"
    wrong = call("pases")
    assert wrong.code == 2
    assert "Did you mean 'passes'?" in wrong.err
