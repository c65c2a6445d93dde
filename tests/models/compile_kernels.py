"""Compiles Triton kernels for a GPU that need not be there: a process of its own.

    python -m tests.models.compile_kernels 90 < KERNELS

reads a JSON list of `TritonKernel`s and prints a JSON object from digest to the error, "" for none.
A process that has imported Triton under TRITON_INTERPRET=1 cannot compile, hence another one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from effcomp.plan.schema import TritonKernel

__all__ = ["KERNELS"]

KERNELS = TypeAdapter(tuple[TritonKernel, ...])


def compile_kernel(kernel: TritonKernel, capability: int, folder: Path) -> str:
    """PTX of a kernel, all pointers aligned as those of torch are."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    path = folder / f"k{kernel.digest}.py"
    path.write_text(kernel.source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Any = getattr(module, kernel.function)
    names = list(function.arg_names)
    assert names == [param.name for param in kernel.params], "parameters are not as declared"
    signature = {param.name: param.type for param in kernel.params}
    pointers = [i for i, param in enumerate(kernel.params) if param.type.startswith("*")]
    source = ASTSource(
        function,
        signature,
        dict(kernel.constants),
        {(index,): [["tt.divisibility", 16]] for index in pointers},
    )
    options = {"num_warps": kernel.num_warps, "num_stages": kernel.num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return compiled.asm["ptx"]


def compile_all(kernels: Sequence[TritonKernel], capability: int) -> dict[str, str]:
    errors: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kernel in kernels:
            try:
                compile_kernel(kernel, capability, Path(folder))
                errors[kernel.digest] = ""
            except Exception as error:  # noqa: BLE001 - the test reports it with the kernel
                errors[kernel.digest] = f"{type(error).__name__}: {error}"
    return errors


if __name__ == "__main__":
    found = compile_all(KERNELS.validate_json(sys.stdin.read()), int(sys.argv[1]))
    print(json.dumps(found))
