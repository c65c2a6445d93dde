"""What is launched arrives at the CUDA driver. A fake one stands in for the GPU's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from effcomp.plan.cubin import LaunchFacts
from effcomp.runtime.cuda_launch import fits
from tests.runtime.plans import add_kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("gcc") is None or torch.cuda.is_available():
        pytest.skip("builds a fake driver with a C compiler; not beside a real one")
    folder = tmp_path_factory.mktemp("driver")
    return {**_run(folder), "again": _run(folder, "again"), "kept": _run(folder, "kept")}


def _run(folder: Path, *more: str) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.runtime.launch_on_fake", str(folder), *more],
        cwd=ROOT,
        env={**environment, "TRITON_CACHE_DIR": str(folder / "triton")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_what_is_launched_arrives(arrived: dict[str, Any]) -> None:
    wanted = {
        "launches": 1,
        "symbol": "add",
        "function": 42,
        "stream": 7,
        "grid": [2, 3, 1],
        "block": [32 * add_kernel().num_warps, 1, 1],
        "shared": 0,
        "parameters": arrived["expected"],
        "asked": 0,
        "params": ["*f32", "*f32", "*f32", "i32"],
    }
    assert {name: arrived[name] for name in wanted} == wanted


def test_a_thread_without_a_context_gets_one(arrived: dict[str, Any]) -> None:
    assert arrived["entered"] == 1


def test_errors_of_the_driver_are_told(arrived: dict[str, Any]) -> None:
    assert arrived["error"] == "kernel add did not launch: fake (CUDA error 1)"


def test_shared_memory_beyond_48_kib_is_asked_for(arrived: dict[str, Any]) -> None:
    assert arrived["asked for large"] == 100_000
    assert arrived["too large"] == (
        "kernel add needs 300000 bytes of shared memory a block, cuda:0 has 232448"
    )


def test_a_cubin_that_fits_needs_no_triton(arrived: dict[str, Any]) -> None:
    assert arrived["again"] == {"notes": [], "launches": 1}


def test_a_kernel_that_was_kept_is_not_compiled(arrived: dict[str, Any]) -> None:
    assert arrived["kept"] == {"notes": [], "launches": 1}


def test_a_gpu_without_cubins_compiles_and_says_so(arrived: dict[str, Any]) -> None:
    assert arrived["compiled"] == [
        "1 of 1 kernels were compiled while loading: the artifact has none for sm_80"
    ]


def test_which_gpus_can_run_a_cubin() -> None:
    facts = LaunchFacts("digest", "kernel", (), "add", 80, 4, 0, ())
    assert [c for c in (75, 80, 86, 89, 90, 100) if fits(facts, c)] == [80, 86, 89]
    hopper = replace(facts, capability=90)
    assert [c for c in (89, 90, 100, 103) if fits(hopper, c)] == [90]
