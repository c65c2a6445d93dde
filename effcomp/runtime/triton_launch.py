"""Compiling and launching Triton kernels: the one file that knows Triton's unstable interfaces.

Checked against Triton 3.6 and 3.7, which agree on all that is used here: ASTSource, the shape of
its `attrs`, and `CompiledKernel.run(x, y, z, stream, function, packed_metadata, launch_metadata,
enter_hook, exit_hook, *arguments)` with constexpr arguments in their places. They differ in where
launchers come from: 3.6 builds one for each signature with the C compiler, 3.7 has one for all.
"""

import contextlib
import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import triton
from triton._C.libtriton import get_cache_invalidating_env_vars
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.compiler import ASTSource, make_backend
from triton.compiler.errors import CompilationError
from triton.runtime import cache as triton_cache
from triton.runtime.cache import get_cache_key, get_cache_manager
from triton.runtime.driver import driver
from triton.runtime.errors import OutOfResources, PTXASError
from triton.runtime.jit import JITFunction

from effcomp.errors import KernelError
from effcomp.plan.schema import TritonKernel
from effcomp.runtime.sources import load_function

__all__ = [
    "Specialized",
    "arguments",
    "compile_ahead",
    "compile_kernel",
    "is_cached",
    "ready",
    "start_driver",
    "triton_type",
    "warm_up",
]

_TYPES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bool": "i1",
    "f8e4m3": "fp8e4nv", "f8e5m2": "fp8e5",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Specialized:
    """A kernel and the positions (among all params) of arguments that are multiples of 16."""

    kernel: TritonKernel
    divisible: tuple[int, ...]


def triton_type(name: str) -> str:
    """Triton's name of a parameter type: "*f32" is "*fp32"."""
    base = name.removeprefix("*")
    return name.removesuffix(base) + _TYPES.get(base, base)


def compile_kernel(specialized: Specialized, capability: int) -> Any:
    """Compile for an NVIDIA GPU, or read Triton's disk cache. Needs no GPU. Raises KernelError."""
    source, target, options = _request(specialized, capability)
    try:
        return triton.compile(source, target=target, options=options)
    except (CompilationError, PTXASError, RuntimeError, ValueError, TypeError) as error:
        kernel = specialized.kernel
        _, path = load_function(kernel)
        raise KernelError(
            f"kernel {kernel.function} ({path}) does not compile for sm_{capability}: {error}"
        ) from error


def compile_ahead(specialized: Specialized, capability: int) -> None:
    """What a worker does: fill Triton's disk cache with all that loading the kernel needs."""
    compiled = compile_kernel(specialized, capability)
    if hasattr(nvidia, "make_launcher"):  # Triton 3.6
        # Without a driver library to link with there is no GPU to load for either.
        with contextlib.suppress(AssertionError, OSError, RuntimeError, subprocess.SubprocessError):
            nvidia.CudaLauncher(compiled.src, compiled.metadata)


def is_cached(specialized: Specialized, capability: int) -> bool:
    """Whether Triton's disk cache holds the compiled kernel."""
    source, target, options = _request(specialized, capability)
    backend = make_backend(target)
    key = get_cache_key(
        source, backend, backend.parse_options(options), get_cache_invalidating_env_vars()
    )
    manager = get_cache_manager(hashlib.sha256(key.encode()).hexdigest())
    name = f"{source.name[:150]}.json"
    return name in (manager.get_group(name) or {})


def _request(
    specialized: Specialized, capability: int
) -> tuple[ASTSource, GPUTarget, dict[str, Any]]:
    """What triton.compile takes: source, target, options."""
    kernel = specialized.kernel
    function, path = load_function(kernel)
    if not isinstance(function, JITFunction):
        raise KernelError(
            f"kernel {kernel.function} ({path}) cannot be compiled: TRITON_INTERPRET makes Triton "
            "interpret everything; unset it before Python starts"
        )
    source = ASTSource(
        function,
        {p.name: triton_type(p.type) for p in kernel.params},
        dict(kernel.constants),
        {(position,): [["tt.divisibility", 16]] for position in specialized.divisible},
    )
    # Contracting multiply and add is what nvcc does for eager's kernels too; Triton's default
    # depends on its version.
    options = {
        "num_warps": kernel.num_warps,
        "num_stages": kernel.num_stages,
        "enable_fp_fusion": True,
    }
    return source, GPUTarget("cuda", capability, 32), options


def warm_up() -> None:
    """Hash Triton's own files: every cache key holds them, and Triton remembers the hash."""
    triton_cache.triton_key()


def start_driver() -> None:
    """Make Triton's CUDA driver, once: it is built with the C compiler where none is cached.

    Threads that load kernels would each make their own. Raises KernelError.
    """
    try:
        _ = driver.active
    except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise KernelError(f"Triton cannot launch on this machine: {error}") from error


def ready(specialized: Specialized, compiled: Any) -> tuple[Any, Any, Any]:
    """Load a compiled kernel on the current CUDA device: (run, function, packed metadata)."""
    kernel = specialized.kernel
    try:
        run = compiled.run
    except (OutOfResources, OSError, RuntimeError, subprocess.SubprocessError) as error:
        _, path = load_function(kernel)
        raise KernelError(f"kernel {kernel.function} ({path}) does not load: {error}") from error
    return run, compiled.function, compiled.packed_metadata


def arguments(kernel: TritonKernel, values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """All arguments in order, constexpr ones included, and the positions of `values` in them."""
    constants = dict(kernel.constants)
    remaining = iter(values)
    full: list[Any] = []
    positions: list[int] = []
    for index, param in enumerate(kernel.params):
        if param.type == "constexpr":
            full.append(constants[param.name])
        else:
            positions.append(index)
            full.append(next(remaining))
    return full, positions
