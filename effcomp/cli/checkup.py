"""What `effcomp doctor` looks at: one function a finding; none of them compiles anything."""

import importlib.metadata
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from effcomp.cli.console import size_text
from effcomp.target import TARGETS, Target, fitting_target
from effcomp.version import __version__

__all__ = ["Finding", "examine"]

_OLDEST_TORCH = (2, 11)
_EXTRAS = {
    "models": ("diffusers", "transformers", "accelerate"),
    "mlir": ("torch_mlir",),
    "iree": ("iree.compiler", "iree.runtime"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. "missing" can be lived with; "broken" cannot."""

    name: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    hint: str = ""

    def data(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "name"}


def examine() -> list[Finding]:
    """Everything that is worth knowing about this machine."""
    torch = _import("torch")
    triton = _import("triton")
    return [
        Finding("effcomp", "ok", f"{__version__} at {Path(__file__).parents[1]}"),
        Finding("python", "ok", f"{platform.python_version()}, {platform.platform()}"),
        _torch(torch),
        _triton(triton),
        *_gpus(torch),
        _compiler(),
        *_targets(torch, triton),
        *(_extra(name, modules) for name, modules in _EXTRAS.items()),
        *_plugins(),
        _cache(),
    ]


def _import(name: str) -> Any:
    """The module, or the error that importing it raised."""
    import importlib

    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        return error


def _torch(torch: Any) -> Finding:
    if isinstance(torch, Exception):
        return Finding("torch", "broken", f"cannot be imported: {torch}", "pip install torch")
    version = str(torch.__version__)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        return Finding("torch", "broken", f"{version} is too old", f"effcomp needs torch {oldest}")
    return Finding("torch", "ok", f"{version}, {torch.get_num_threads()} threads")


def _triton(triton: Any) -> Finding:
    if isinstance(triton, Exception):
        hint = "without it effcomp compiles for the CPU only"
        return Finding("triton", "missing", f"cannot be imported: {triton}", hint)
    return Finding("triton", "ok", str(triton.__version__))


def _gpus(torch: Any) -> Iterator[Finding]:
    devices: list[Any] = []
    if not isinstance(torch, Exception):
        devices += map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    for index, found in enumerate(devices):
        detail = f"{found.name}, sm_{found.major}{found.minor}, {size_text(found.total_memory)}"
        yield Finding(f"gpu {index}", "ok", detail)
    if not devices:
        hint = "artifacts for GPUs can be compiled here all the same, with --target cuda:90"
        yield Finding("gpu", "missing", "none that torch can use", hint)


def _compiler() -> Finding:
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("g++", "clang++", "c++"):
        if path := shutil.which(name):
            return Finding("c++ compiler", "ok", path)
    hint = "fused regions on the CPU then run as single calls: install g++ or set CXX"
    return Finding("c++ compiler", "missing", f"{wanted or 'g++'} is not on PATH", hint)


def _targets(torch: Any, triton: Any) -> Iterator[Finding]:
    if isinstance(torch, Exception):
        return
    devices = map(torch.cuda.get_device_capability, range(torch.cuda.device_count()))
    capabilities = [major * 10 + minor for major, minor in devices]
    for target in TARGETS.values():
        compiles = target.kind == "cpu" or not isinstance(triton, Exception)
        runs = _runs(target, capabilities)
        does = [word for word, can in (("compiles", compiles), ("runs", runs)) if can]
        state = "ok" if does else "missing"
        yield Finding(f"target {target.name}", state, ", ".join(does) or "needs Triton")


def _runs(target: Target, capabilities: list[int]) -> bool:
    """A GPU runs its own target's kernels as they are, and compiles an older one's for itself."""
    if target.kind == "cpu":
        return True
    return any(fitting_target((target,), capability) for capability in capabilities)


def _extra(name: str, modules: tuple[str, ...]) -> Finding:
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        hint = f'pip install "effcomp[{name}]"'
        return Finding(f"extra {name}", "missing", f"without {', '.join(missing)}", hint)
    return Finding(f"extra {name}", "ok", ", ".join(map(_with_version, modules)))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _with_version(module: str) -> str:
    found = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    return f"{module} {importlib.metadata.version(found[0])}" if found else module


def _plugins() -> Iterator[Finding]:
    """What is installed beside the compiler's own passes and ops, and what did not load."""
    from effcomp.errors import PluginError, PluginWarning
    from effcomp.passes import known_passes
    from effcomp.plugins import REGISTRY

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", PluginWarning)
        try:
            known_passes()
        except PluginError as error:
            yield Finding("plugins", "broken", str(error))
    if failed := [str(w.message) for w in seen if issubclass(w.category, PluginWarning)]:
        yield Finding("plugins left out", "missing", "\n".join(failed))
    brought: dict[str, list[str]] = {}
    for pass_ in REGISTRY.passes.values():
        brought.setdefault(str(pass_.origin), []).append(f"pass {pass_.name}")
    for op in REGISTRY.ops.values():
        brought.setdefault(str(op.origin), []).append(f"op {op.spec.name}")
    for origin, things in sorted(brought.items()):
        yield Finding(f"plugin {origin}", "ok", ", ".join(things))


def _cache() -> Finding:
    from effcomp.cache import cache_folder

    folder = cache_folder()
    entries = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(nearest, os.W_OK):
        hint = "set EFFCOMP_CACHE_DIR to a folder that can be written"
        return Finding("compile cache", "missing", f"{folder} cannot be written", hint)
    used = size_text(sum(path.stat().st_size for path in entries))
    return Finding("compile cache", "ok", f"{folder}: {len(entries)} files, {used}")
