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
from tests.codegen.triton.running import emitted, group_graph
from tests.codegen.triton.test_elementwise import BINARY, UNARY, dtypes_of, result_of

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


def all_ops(dtype: str, binary: bool) -> KernelLaunch:
    """One kernel whose results are every elementwise op of the dtype."""
    names = [n for n in (BINARY if binary else UNARY) if dtype in dtypes_of(n)]
    operands = "%x, %y" if binary else "%x"
    lines = [
        f"%r{i} = {name}({operands}) : {result_of(name, dtype)}[4096]"
        for i, name in enumerate(names)
    ]
    returned = ", ".join(f"%r{i}" for i in range(len(names)))
    params = f"%x: {dtype}[4096], %y: {dtype}[4096]"
    graph = group_graph("pointwise", params, "\n".join([*lines, f"return {returned}"]))
    return emitted(graph.ops[0])


def all_reductions(dtype: str, columns: int) -> KernelLaunch:
    """One kernel that reduces its rows in every way the dtype allows."""
    names = ["sum", "prod", "amax", "amin", *(["mean"] if dtype[0] == "f" else [])]
    lines = [f"%{n} = tensor.{n}(%x) {{dims = [1]}} : {dtype}[64]" for n in names]
    lines += [f"%{n} = tensor.{n}(%x) {{dims = [1]}} : bool[64]" for n in ("any", "all")]
    lines += [f"%{n} = tensor.{n}(%x) {{dim = 1}} : i64[64]" for n in ("argmax", "argmin")]
    if dtype[0] == "f":
        lines += [
            f"%{n} = nn.{n}(%x) {{dim = 1}} : {dtype}[64, {columns}]"
            for n in ("softmax", "log_softmax")
        ]
    returned = ", ".join(line.partition(" ")[0] for line in lines)
    body = "\n".join([*lines, f"return {returned}"])
    return emitted(group_graph("rowwise", f"%x: {dtype}[64, {columns}]", body).ops[0])


@pytest.mark.slow
def test_every_op_compiles() -> None:
    launches = [all_ops(d, b) for d in ("f64", "f32", "f16", "i64", "u8") for b in (False, True)]
    launches += [all_reductions(d, n) for d in ("f64", "f16", "i64", "u8") for n in (100, 40000)]
    compile_all(launches, 90)


@pytest.mark.slow
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
