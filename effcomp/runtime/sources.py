"""Kernel source text as Triton functions.

Triton reads a function's source back through `inspect`, and profilers show source lines: so the
text is put into a file, and into linecache in case the file cannot be written or vanishes.
"""

import functools
import linecache
import os
import pathlib
import tempfile
import types
from typing import Any

from effcomp.errors import KernelError
from effcomp.plan.schema import TritonKernel

__all__ = ["load_function", "source_path"]


def source_path(kernel: TritonKernel) -> pathlib.Path:
    """Where a kernel's source is kept for people, debuggers and profilers to read."""
    given = os.environ.get("EFFCOMP_CACHE_DIR")
    base = pathlib.Path(given) if given else pathlib.Path(tempfile.gettempdir(), _user_folder())
    return base / "kernels" / f"{kernel.function}_{kernel.digest[:12]}.py"


def load_function(kernel: TritonKernel) -> tuple[Any, str]:
    """The kernel's Triton function and the path of its source. Raises KernelError."""
    path = source_path(kernel)
    return _load(kernel.function, kernel.source, str(path)), str(path)


@functools.lru_cache(maxsize=4096)
def _load(function: str, source: str, path: str) -> Any:
    _write(pathlib.Path(path), source)
    # No modification time: linecache then never looks at the file again.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    module = types.ModuleType(pathlib.Path(path).stem)
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), module.__dict__)
        return getattr(module, function)
    except (SyntaxError, AttributeError, NameError, ImportError, TypeError, ValueError) as error:
        raise KernelError(f"the source of kernel {function} ({path}) does not load: {error}") from (
            error
        )


def _write(path: pathlib.Path, source: str) -> None:
    """Best effort: a folder that cannot be written costs nothing but the file to look at."""
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == source:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as aside:
            aside.write(source)
        os.replace(aside.name, path)
    except OSError:
        return


def _user_folder() -> str:
    return f"effcomp_{os.getuid()}" if hasattr(os, "getuid") else "effcomp"
