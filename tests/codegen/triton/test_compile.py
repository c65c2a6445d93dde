"""The patterns compile for GPUs, in bfloat16, with vector accesses and without spills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from effcomp.codegen.kernel import KernelLaunch
from effcomp.target import TARGETS
from tests.codegen.triton.patterns import PATTERNS
from tests.codegen.triton.running import emitted

WORKER = Path(__file__).with_name("compile_worker.py")


def compile_all(launches: list[KernelLaunch], capability: int) -> list[dict[str, Any]]:
    """Compile in a process that does not interpret."""
    requests: list[dict[str, Any]] = []
    for launch in launches:
        kernel = launch.kernel
        requests.append(
            {
                "source": kernel.source,
                "function": kernel.function,
                "digest": kernel.digest,
                "params": [(p.name, p.type) for p in kernel.params],
                "constants": list(kernel.constants),
                "num_warps": kernel.num_warps,
                "num_stages": kernel.num_stages,
                "capability": capability,
            }
        )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, str(WORKER)], input=json.dumps(requests), env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("capability", [90, 80])
def test_patterns(capability: int) -> None:
    launches = [
        emitted(make("bf16").ops[0], TARGETS[f"cuda:{capability}"]) for make in PATTERNS.values()
    ]
    answers = dict(zip(PATTERNS, compile_all(launches, capability), strict=True))
    for name, answer in answers.items():
        assert ".local" not in answer["signs"], f"{name} keeps registers in memory"
    for name in ("ada_layer_norm", "geglu", "concat", "embedding", "residual_layer_norm"):
        assert "ld.global.v4" in answers[name]["signs"], f"{name}: {answers[name]}"
    product = "wgmma" if capability == 90 else "mma.sync"
    assert product in answers["linear_gelu_residual"]["signs"]
    assert "mma.sync" in answers["small_batch_linear"]["signs"]
