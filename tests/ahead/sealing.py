"""Artifacts with parts exchanged: raw, or sealed anew so that every digest is right."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["rewritten", "sealed"]

Files = dict[str, bytes]


def rewritten(source: Path, path: Path, change: Callable[[Files], None]) -> Path:
    """A copy of an artifact with its files changed, and nothing else brought into line."""
    with zipfile.ZipFile(source) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    change(files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def sealed(source: Path, path: Path, change: Callable[[Files], None]) -> Path:
    """The same with the manifest's sizes and digests those of what the files hold now."""

    def change_and_seal(files: Files) -> None:
        change(files)
        manifest: Any = json.loads(files["manifest.json"])
        manifest["entries"] = {
            name: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for name, body in files.items()
            if name not in ("manifest.json", "weights.safetensors")
        }
        files["manifest.json"] = json.dumps(manifest).encode()

    return rewritten(source, path, change_and_seal)


def changed_json(files: Files, name: str, change: Callable[[Any], None]) -> None:
    """Change what a JSON file of the artifact says."""
    value: Mapping[str, Any] = json.loads(files[name])
    change(value)
    files[name] = json.dumps(value).encode()
