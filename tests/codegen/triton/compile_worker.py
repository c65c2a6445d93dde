"""Compile kernels for GPUs that need not be there: requests on stdin, findings on stdout.

A process of its own, because Triton either interprets or compiles. A request holds a kernel's
source, function, params, constants and options; the answer the instructions of interest.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SIGNS = ("wgmma", "mma.sync", "ld.global.v4", "ld.global.v2", "st.global.v4", ".local")


def compiled(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compile one kernel as the runtime would with aligned pointers and sizes."""
    path = folder / f"kernel_{request['digest']}.py"
    path.write_text(request["source"])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = getattr(module, request["function"])
    signature = dict(request["params"])
    aligned = [n for n, kind in signature.items() if kind != "constexpr"]
    attrs = {(kernel.arg_names.index(n),): [["tt.divisibility", 16]] for n in aligned}
    source = ASTSource(kernel, signature, dict(request["constants"]), attrs)
    options = {"num_warps": request["num_warps"], "num_stages": request["num_stages"]}
    found = triton.compile(
        source, target=GPUTarget("cuda", request["capability"], 32), options=options
    )
    ptx = found.asm["ptx"]
    return {
        "signs": [s for s in SIGNS if s in ptx],
        "shared": found.metadata.shared,
        "registers": getattr(found, "n_regs", None),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        answers = [compiled(r, Path(folder)) for r in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
