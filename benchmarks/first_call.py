"""How long the first call takes in a new process: `torch.compile` to the first output.

    python -m benchmarks.first_call --workload flux --backend inductor

prints the seconds as JSON. The model is built and run eagerly before the clock starts, so that
loading libraries and waking the device are not counted; what the compiler imports is. `measure`
runs it several times with the same caches: empty (cold), then kept (warm). A call of a tiny model,
not timed, goes before: it leaves the interpreter's bytecode, which an installation has and a source
tree or an image built without it lacks: compiling imports would be most of what is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["FirstCalls"]

ROOT = Path(__file__).parents[1]
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "EFFCOMP_CACHE_DIR")


@functools.cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    """Where all runs of this process keep bytecode: filled once, deleted with the process."""
    return tempfile.TemporaryDirectory(prefix="bytecode")


class FirstCalls:
    """First calls of one workload, each in a process of its own.

    A backend's calls share their caches, which are empty at the first and deleted with the block.
    """

    def __init__(self, workload: str, device: str, tiny: bool) -> None:
        self._command = [sys.executable, "-m", "benchmarks.first_call", "--workload", workload]
        self._command += ["--device", device]
        self._tiny = tiny
        self._folders = contextlib.ExitStack()
        self._caches: dict[str, str] = {}

    def __enter__(self) -> FirstCalls:
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.close()

    def seconds(self, backend: str, timeout: float) -> float:
        """Make one more call: cold the first time, warm after that."""
        command = [*self._command, "--backend", backend]
        if backend not in self._caches:
            with tempfile.TemporaryDirectory() as untimed:
                _run([*command, "--tiny"], untimed, timeout)
            self._caches[backend] = self._folders.enter_context(tempfile.TemporaryDirectory())
        if self._tiny:
            command.append("--tiny")
        return _run(command, self._caches[backend], timeout)


def _run(command: list[str], caches: str, timeout: float) -> float:
    """The seconds that a new process prints."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": _bytecode().name}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {name: str(Path(caches) / name.lower()) for name in CACHES}
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if run.returncode != 0:
        raise RuntimeError(f"first call failed: {run.stderr[-300:]}")
    return json.loads(run.stdout.splitlines()[-1])["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()

    import torch

    from benchmarks.backends import compiled
    from benchmarks.workloads import build

    def wait() -> None:
        if arguments.device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():
        workload = build(arguments.workload, arguments.device, arguments.tiny)
        workload.module(**workload.inputs)
        workload.prepare()
        wait()
        start = time.perf_counter()
        compiled(arguments.backend, workload.module)(**workload.inputs)
        wait()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
