"""Compiling Triton kernels: the one file that knows Triton's unstable interfaces.

Checked against Triton 3.6 and 3.7, which agree on all that is used here: ASTSource, the shape of
its `attrs`, the metadata of what is compiled, and the two pointers to scratch memory that come
after a kernel's own parameters.
"""

import hashlib
import re
from typing import Any

import triton
from triton._C.libtriton import get_cache_invalidating_env_vars
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.compiler.errors import CompilationError
from triton.runtime import cache as triton_cache
from triton.runtime.cache import get_cache_key, get_cache_manager
from triton.runtime.errors import PTXASError
from triton.runtime.jit import JITFunction

from effcomp.errors import KernelError
from effcomp.plan.cubin import Cubin, LaunchFacts
from effcomp.runtime.sources import load_function
from effcomp.runtime.specialize import Specialized

__all__ = ["compile_kernel", "cubin_of", "is_cached", "triton_type", "warm_up"]

_TYPES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "bool": "i1",
    "f8e4m3": "fp8e4nv", "f8e5m2": "fp8e5",
}  # fmt: skip


_ENTRY = re.compile(r"\.visible \.entry \w+\(([^)]*)\)", re.DOTALL)
_PARAM = re.compile(r"\.param\b")


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


def cubin_of(specialized: Specialized, capability: int) -> Cubin:
    """The kernel as machine code, with what launching it takes. Raises KernelError."""
    compiled = compile_kernel(specialized, capability)
    kernel, metadata = specialized.kernel, compiled.metadata
    params = tuple(p.type for p in kernel.params if p.type != "constexpr")
    entry = _ENTRY.search(compiled.asm["ptx"])
    count = len(_PARAM.findall(entry[1])) if entry else -1
    if count != len(params) + 2 or metadata.num_ctas != 1:
        raise KernelError(
            f"kernel {kernel.function} was compiled for {count} parameters and {metadata.num_ctas} "
            f"blocks a cluster by Triton {triton.__version__}, not for the {len(params)} + 2 and "
            "one that effcomp launches"
        )
    identity = (kernel.digest, *map(str, specialized.divisible), str(capability))
    facts = LaunchFacts(
        digest=hashlib.sha256("/".join((*identity, triton.__version__)).encode()).hexdigest()[:24],
        kernel=kernel.digest,
        divisible=specialized.divisible,
        symbol=metadata.name,
        capability=capability,
        num_warps=metadata.num_warps,
        shared=metadata.shared,
        params=params,
        scratch=(metadata.global_scratch_size, metadata.profile_scratch_size),
        triton=triton.__version__,
    )
    return Cubin(facts, compiled.asm["cubin"])


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
