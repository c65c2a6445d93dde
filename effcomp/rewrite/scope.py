"""Which modules of a model a pass may change: `only="blocks.*"`."""

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase

from effcomp.ir import Op


@dataclass(frozen=True, slots=True)
class Scope:
    """Patterns of module paths as in a shell; none at all is the whole program.

    A pattern takes a module with all that is inside it: `blocks.0` holds `blocks.0.norm1` and not
    `blocks.01`; `*` crosses dots.
    """

    only: tuple[str, ...] = ()

    def holds(self, op: Op) -> bool:
        return not self.only or _matches(op.scope, self.only)

    def __str__(self) -> str:
        return ", ".join(map(repr, self.only)) or "the whole program"


@functools.lru_cache(maxsize=1 << 14)
def _matches(scope: str, only: tuple[str, ...]) -> bool:
    parts = scope.split(".")
    paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(path, pattern) for pattern in only for path in paths)


WHOLE = Scope()
