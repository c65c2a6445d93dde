"""Runs MLIR text with IREE: a compiler that shares nothing with effcomp but the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

REASON = "needs IREE: pip install 'effcomp[iree]'"
# How IREE is told what it reads; it takes linalg as it is.
_INPUT_TYPES = {"linalg": "none", "stablehlo": "stablehlo", "torch": "torch", "tosa": "tosa"}


class Compiled:
    """`@main` of a text, for the CPU. Skips the test where IREE is not installed."""

    def __init__(self, text: str, dialect: str) -> None:
        compiler = pytest.importorskip("iree.compiler", reason=REASON)
        runtime = pytest.importorskip("iree.runtime", reason=REASON)
        code = compiler.compile_str(
            _generic(text) if dialect == "tosa" else text,
            input_type=_INPUT_TYPES[dialect],
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=generic"],
        )
        config = runtime.Config("local-sync")
        image = runtime.VmModule.copy_buffer(config.vm_instance, code)
        self.main = runtime.load_vm_module(image, config)["main"]

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        found: Any = self.main(*(arg.detach().contiguous().numpy() for arg in args))
        arrays = found if isinstance(found, tuple | list) else (found,)
        return tuple(torch.from_numpy(np.array(array.to_host())) for array in arrays)


def _generic(text: str) -> str:
    """The same module in MLIR's generic form: TOSA's own syntax differs from version to version."""
    ir = pytest.importorskip("torch_mlir.ir")
    with ir.Context():
        return ir.Module.parse(text).operation.get_asm(print_generic_op_form=True)
