"""Every kernel of every model's GPU plan compiles for sm_80 and sm_90, in float32 and bfloat16."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from effcomp.capture import Captured, Role, compile_dynamo
from effcomp.compiling import build_plan
from effcomp.passes.pipelines import pipeline_for
from effcomp.plan.schema import Plan, TritonKernel
from effcomp.target import TARGETS
from tests.capture.recording import results_of
from tests.models.compile_kernels import KERNELS
from tests.models.compiling import assert_agree, tensors
from tests.models.zoo import ZOO, Entry

ROOT = Path(__file__).parents[2]
ENTRIES = [pytest.param(entry, id=name) for name, entry in ZOO.items()]
DTYPES = [pytest.param(torch.float32, id="f32"), pytest.param(torch.bfloat16, id="bf16")]


def _capture(entry: Entry, dtype: torch.dtype) -> list[Captured]:
    """Capture a model's graphs while the oracle runs them, and compare with eager."""
    found: list[Captured] = []

    def compile_graph(captured: Captured, role: Role) -> Callable[[list[Any]], list[Any]]:
        assert role is Role.INFERENCE
        found.append(captured)
        return lambda args: results_of(captured, args)

    def backend(gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        return compile_dynamo(gm, inputs, compile_graph)

    inputs = entry.inputs(dtype=dtype)
    with torch.no_grad():
        actual = tensors(entry, torch.compile(entry.build(dtype), backend=backend)(**inputs))
        expected = tensors(entry, entry.build(dtype)(**entry.inputs(dtype=dtype)))
    assert_agree(actual, expected, dtype)
    return found


def _kernels(plan: Plan) -> list[TritonKernel]:
    inner = _kernels(plan.prologue) if plan.prologue is not None else []
    return [*(k for k in plan.kernels if isinstance(k, TritonKernel)), *inner]


def _compile(kernels: Sequence[TritonKernel], capability: int) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.models.compile_kernels", str(capability)],
        cwd=ROOT,
        env=environment,
        input=KERNELS.dump_json(tuple(kernels)).decode(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="session")
def compiled_already(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of empty files, one for a kernel that compiled, that all workers share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled-kernels"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("entry", ENTRIES)
def test_kernels_compile(entry: Entry, dtype: torch.dtype, compiled_already: Path) -> None:
    graphs = _capture(entry, dtype)
    for name in ("cuda:80", "cuda:90"):
        target = TARGETS[name]
        pipeline = pipeline_for(target, training=False, horizontal_rows=1024)
        new: dict[str, TritonKernel] = {}
        for captured in graphs:
            kernels = _kernels(build_plan(captured.graph, target, pipeline))
            assert kernels, "a GPU plan without a kernel"
            new |= {f"{target.capability}-{k.digest}": k for k in kernels}
        new = {key: k for key, k in new.items() if not (compiled_already / key).exists()}
        errors = _compile(list(new.values()), target.capability)
        failed = [
            f"{kernel.function}: {errors[kernel.digest]}\n{kernel.source}"
            for kernel in new.values()
            if errors[kernel.digest]
        ]
        assert not failed, f"{len(failed)} kernels for {name}:\n\n" + "\n\n".join(failed)
        for key in new:
            (compiled_already / key).touch()
