"""The compile cache on disk: plans by a key of everything that shapes them."""

import functools
import hashlib
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterable

from effcomp.errors import CacheWarning, PlanError
from effcomp.plan.schema import Plan
from effcomp.plan.serialize import dump_plan, load_plan

_LIMIT_BYTES = 1 << 30


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
    path = _path(key)
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
        plan = load_plan(body)
    except PlanError as error:
        _discard(path, str(error))
        return None
    os.utime(path)
    return plan


def write(key: str, plan: Plan) -> None:
    """Store a plan. A cache that cannot be written warns and changes nothing."""
    body = dump_plan(plan)
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Write aside and rename: an interrupted process leaves no half entry.
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as aside:
            aside.write(f"{_stamp(body)}\n{body}")
        os.replace(aside.name, path)
        _evict(path.parent)
    except OSError as error:
        warnings.warn(
            f"the compile cache {path.parent} cannot be written: {error}",
            CacheWarning,
            stacklevel=2,
        )


def _path(key: str) -> pathlib.Path:
    return cache_folder() / "plans" / f"{key}.json"


def _stamp(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _discard(path: pathlib.Path, reason: str) -> None:
    warnings.warn(
        f"the compile cache entry {path.name} is rebuilt: {reason}", CacheWarning, stacklevel=3
    )
    path.unlink(missing_ok=True)


def _evict(folder: pathlib.Path) -> None:
    """Drop the entries longest unused once the folder is over its limit."""
    entries = sorted((p.stat().st_mtime, p.stat().st_size, p) for p in folder.glob("*.json"))
    total = sum(size for _, size, _ in entries)
    for _, size, path in entries:
        if total <= _LIMIT_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
