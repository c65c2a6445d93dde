"""Compiled kernels on disk: a process that finds its own here needs no Triton.

Triton's cache would have them too. To ask it, Triton hashes its compiler, hundreds of megabytes,
and reads every kernel's source anew: 0.4 s, and 7 ms a kernel.
"""

import functools
import hashlib
import importlib.util
import os
import pathlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from effcomp.errors import ArtifactError, CacheWarning
from effcomp.kept_files import evict, replace_file
from effcomp.plan.cubin import Cubin, dump_facts, load_facts
from effcomp.runtime.specialize import Specialized

__all__ = ["KeptCubins"]

_LIMIT_BYTES = 1 << 30
# Variables that Triton, LLVM and ptxas read, less those that only say where files lie.
_VARIABLES = (
    "ALLOW_LHS_TMEM_LAYOUT_CONVERSION", "DISABLE_", "LLVM_", "MLIR_", "NVPTX_", "PTXAS_",
    "TRITON_", "USE_IR_LOC",
)  # fmt: skip
_PLACES = ("TRITON_CACHE_DIR", "TRITON_HOME")
# Whoever sets one of these wants to see Triton compile.
_WATCHING = ("ALWAYS_COMPILE", "DUMP", "OVERRIDE")


@dataclass(frozen=True, slots=True)
class KeptCubins:
    """A folder of compiled kernels. `salt` stands for what made them: effcomp's own version."""

    folder: pathlib.Path
    salt: str

    def read(self, wanted: Iterable[Specialized], capability: int) -> dict[Specialized, Cubin]:
        """Those of the kernels that lie there; damaged ones do not, and that warns."""
        found: dict[Specialized, Cubin] = {}
        if (compiler := _compiler()) is None:
            return found
        for one in wanted:
            path = self._path(one, capability, compiler)
            try:
                stamp, facts, code = path.read_bytes().split(b"\n", 2)
                if stamp != _stamp(facts, code):
                    raise ValueError("its digest does not match its content")
                found[one] = Cubin(load_facts(facts, path.name), code)
                os.utime(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError, ArtifactError) as error:
                warnings.warn(
                    f"the compiled kernel {path.name} is compiled again: {error}",
                    CacheWarning,
                    stacklevel=2,
                )
        return found

    def write(self, cubins: Mapping[Specialized, Cubin]) -> None:
        """Keep kernels. A folder that cannot be written warns and changes nothing."""
        if (compiler := _compiler()) is None:
            return
        try:
            for one, cubin in cubins.items():
                facts = dump_facts(cubin.facts)
                data = b"\n".join((_stamp(facts, cubin.code), facts, cubin.code))
                replace_file(self._path(one, cubin.facts.capability, compiler), data)
            evict(self.folder.glob("*.cubin"), _LIMIT_BYTES)
        except OSError as error:
            warnings.warn(
                f"compiled kernels cannot be kept in {self.folder}: {error}",
                CacheWarning,
                stacklevel=2,
            )

    def _path(self, one: Specialized, capability: int, compiler: str) -> pathlib.Path:
        key = repr((self.salt, compiler, one, capability))
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.cubin"


def _stamp(facts: bytes, code: bytes) -> bytes:
    return hashlib.sha256(facts + b"\n" + code).hexdigest().encode()


def _compiler() -> str | None:
    """Which Triton would compile, and how its variables are set; None: it is to be asked itself."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_VARIABLES) and name not in _PLACES
    }
    if any(word in name for name in variables for word in _WATCHING):
        return None
    installed = _installed()
    tools = [_facts_of(value) for value in variables.values() if os.path.isfile(value)]
    return None if installed is None else repr((installed, sorted(variables.items()), tools))


@functools.cache
def _installed() -> str | None:
    """Triton's files by size and time: another compiler has others. Does not import it."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    digest = hashlib.sha256()
    for folder, inner, files in os.walk(os.path.dirname(spec.origin)):
        inner[:] = sorted(name for name in inner if name not in ("__pycache__", "include"))
        for name in sorted(files):
            digest.update(repr(_facts_of(os.path.join(folder, name))).encode())
    return digest.hexdigest()


def _facts_of(path: str) -> tuple[str, int, int]:
    found = os.stat(path)
    return path, found.st_size, found.st_mtime_ns
