"""The compile cache on disk: plans by a key of everything that shapes them, and ways to them.

A plan's key is made of the imported graph. A trace leads to a plan from the graph that Dynamo
hands over, before AOTAutograd and the importer have run; it holds the plan's key.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable
from typing import TypeVar

from effcomp.errors import CacheWarning, PlanError
from effcomp.kept_files import evict, replace_file
from effcomp.plan.schema import Plan
from effcomp.plan.serialize import dump_plan, load_plan

_LIMIT_BYTES = 1 << 30
_PLANS, _TRACES = "plans", "traces"
_KEY = re.compile("[0-9a-f]{64}")

T = TypeVar("T")


def cache_folder() -> pathlib.Path:
    """`$EFFCOMP_CACHE_DIR`, else `effcomp` in the user's cache folder."""
    if given := os.environ.get("EFFCOMP_CACHE_DIR"):
        return pathlib.Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "effcomp"


@functools.cache
def source_digest() -> str:
    """A digest of effcomp's own sources: a changed compiler finds none of its old plans."""
    root = os.path.dirname(__file__)
    digest = hashlib.sha256()
    # Every first call waits for this: pathlib would take four times as long.
    for folder, inner, files in os.walk(root):
        inner.sort()
        for name in sorted(files):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb", buffering=0) as file:
                    text = file.read()
                digest.update(f"{folder.removeprefix(root)}/{name} {len(text)}\n".encode())
                digest.update(text)
    return digest.hexdigest()


def key_of(parts: Iterable[str]) -> str:
    """One key for texts that together decide a plan; effcomp's sources are always among them."""
    digest = hashlib.sha256(source_digest().encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode())
    return digest.hexdigest()


def read(key: str) -> Plan | None:
    """The plan under `key`; None where there is none or the entry is damaged (that warns)."""
    return _read(_path(_PLANS, key), load_plan)


def write(key: str, plan: Plan) -> None:
    """Store a plan. A cache that cannot be written warns and changes nothing."""
    _write(_path(_PLANS, key), dump_plan(plan))


def read_trace(key: str) -> str | None:
    """The key of the plan that a trace leads to; None as for `read`."""
    return _read(_path(_TRACES, key), _load_trace)


def write_trace(key: str, plan: str) -> None:
    """Store the key of the plan that a trace leads to. A cache that cannot be written warns."""
    _write(_path(_TRACES, key), plan)


def _load_trace(text: str) -> str:
    if _KEY.fullmatch(text) is None:
        raise PlanError("it holds no plan's key")
    return text


def _read(path: pathlib.Path, load: Callable[[str], T]) -> T | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        _discard(path, str(error))
        return None
    stamp, _, body = text.partition("\n")
    if stamp != _stamp(body):
        _discard(path, "its digest does not match its content")
        return None
    try:
        found = load(body)
    except PlanError as error:
        _discard(path, str(error))
        return None
    with contextlib.suppress(FileNotFoundError):  # another process may evict it meanwhile
        os.utime(path)
    return found


def _write(path: pathlib.Path, body: str) -> None:
    try:
        replace_file(path, f"{_stamp(body)}\n{body}".encode())
        # A trace whose plan is gone leads nowhere, which its reader finds.
        kinds = (cache_folder() / kind for kind in (_PLANS, _TRACES))
        evict((entry for kind in kinds for entry in kind.glob("*.json")), _LIMIT_BYTES)
    except OSError as error:
        warnings.warn(
            f"the compile cache {path.parent} cannot be written: {error}",
            CacheWarning,
            stacklevel=3,
        )


def _path(kind: str, key: str) -> pathlib.Path:
    return cache_folder() / kind / f"{key}.json"


def _stamp(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _discard(path: pathlib.Path, reason: str) -> None:
    warnings.warn(
        f"the compile cache entry {path.name} is rebuilt: {reason}", CacheWarning, stacklevel=4
    )
    path.unlink(missing_ok=True)
