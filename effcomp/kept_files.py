"""Files that several processes keep for each other in one folder."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterable

__all__ = ["evict", "replace_file"]


def replace_file(path: pathlib.Path, data: bytes) -> None:
    """Write a file aside and rename it: an interrupted process leaves no half of one.

    Raises OSError where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as aside:
        aside.write(data)
    os.replace(aside.name, path)


def evict(paths: Iterable[pathlib.Path], limit: int) -> None:
    """Delete the files longest unused until the rest takes at most `limit` bytes."""
    entries: list[tuple[float, int, pathlib.Path]] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another process evicts too
            found = path.stat()
            entries.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
