"""`effcomp inspect`: what an artifact holds. Nothing of it runs, and torch is not loaded."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import Artifact

if TYPE_CHECKING:
    from effcomp.plan.container import Artifact as Contents
    from effcomp.plan.schema import Plan

__all__ = ["described", "inspect", "summary"]

Entries = Annotated[
    bool, typer.Option("--entries", help="List the files in it, with sizes and digests.")
]
Show = Annotated[
    str | None,
    typer.Option(metavar="ENTRY", help="Print one of its files, such as a kernel or a stage."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare the weights with their digests as well.")
]


def inspect(
    artifact: Artifact,
    entries: Entries = False,
    show: Show = None,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Show what an artifact holds: its call, targets, kernels, weights, versions, digests.

    The digests of everything but the weights are compared always, those of the weights with
    --verify.
    """
    from effcomp.cli.console import out, print_json, size_text, table

    if show is not None:
        print(_entry(artifact, show), end="")
        return
    data = described(artifact)
    if verify:
        _verify_weights(artifact)
        data["verified"] = True
    if json:
        print_json(data)
        return
    out().print(summary(data))
    if verify:
        out().print("\nevery digest is right")
    if entries:
        rows = [(n, size_text(e["size"]), e["sha256"][:16]) for n, e in data["entries"].items()]
        out().print()
        out().print(table(("entry", "size", "sha256"), rows, right=("size",)))


def described(path: Path) -> dict[str, Any]:
    """An artifact as data. Raises ArtifactError where it is damaged."""
    from dataclasses import asdict

    from effcomp.plan.container import read_artifact

    contents = read_artifact(path)
    manifest = contents.manifest
    return {
        "name": manifest.name,
        "bytes": path.stat().st_size,
        "format": manifest.version,
        "versions": asdict(manifest.versions),
        "call": str(manifest.signature),
        "inputs": [asdict(spec) for spec in manifest.signature.inputs],
        "sizes": {name: asdict(sizes) for name, sizes in manifest.signature.ranges.items()},
        "targets": {name: _target(contents, name, plan) for name, plan in contents.plans.items()},
        "weights": _weights(contents),
        "entries": {name: asdict(entry) for name, entry in manifest.entries.items()},
    }


def _verify_weights(path: Path) -> None:
    """Compare the embedded weights with their digests. Raises ArtifactError."""
    from concurrent.futures import ThreadPoolExecutor

    from effcomp.plan.container import read_artifact
    from effcomp.runtime.mapping import MappedFile, verify_chunks

    contents = read_artifact(path)
    if contents.weights is None:
        return
    file = MappedFile.open(path, contents.weights)
    weights = contents.manifest.weights
    with ThreadPoolExecutor() as pool:
        for check in verify_chunks(file, weights.chunks, weights.chunk_bytes, pool):
            check.result()


def _target(contents: "Contents", name: str, plan: "Plan") -> dict[str, Any]:
    from collections import Counter

    kinds = Counter(kernel.kind for kernel in plan.kernels)
    return {
        "steps": len(plan.steps),
        "triton_kernels": kinds["triton"],
        "regions": kinds["region"],
        "cubins": len(contents.cubins.get(name, ())),
        "stages": [spec for spec, _ in contents.stages.get(name, ())],
    }


def _weights(contents: "Contents") -> dict[str, Any]:
    from effcomp.ir.types import ITEMSIZE

    weights = contents.manifest.weights
    tensors = {entry.tensor: entry for entry in weights.entries.values()}
    sizes = {n: math.prod(e.shape) * ITEMSIZE[e.dtype] for n, e in tensors.items()}
    outside = sum(size for name, size in sizes.items() if name in weights.places)
    return {
        "names": len(weights.entries),
        "tensors": len(tensors),
        "embedded_bytes": sum(sizes.values()) - outside,
        "referenced_bytes": outside,
        "files": [file.path for file in weights.files],
    }


def summary(data: dict[str, Any]) -> Any:
    """What `described` found, as a table of facts."""
    from effcomp.cli.console import pairs, size_text

    versions, weights = data["versions"], data["weights"]
    facts = {
        "name": data["name"],
        "call": data["call"],
        "built by": ", ".join(f"{name} {text}" for name, text in versions.items() if text),
    }
    for name, target in data["targets"].items():
        what = [f"{target['steps']} steps"]
        what += [f"{target['triton_kernels']} kernels"] if target["triton_kernels"] else []
        what += [f"{target['cubins']} compiled"] if target["cubins"] else []
        what += [f"{target['regions']} regions"] if target["regions"] else []
        facts[f"for {name}"] = ", ".join(what)
    facts["weights"] = f"{weights['names']} in {weights['tensors']} tensors, " + ", ".join(
        f"{size_text(weights[key])} {where}"
        for key, where in (("embedded_bytes", "inside"), ("referenced_bytes", "in other files"))
        if weights[key] or key == "embedded_bytes"
    )
    if weights["files"]:
        facts["files"] = ", ".join(weights["files"])
    return pairs(facts)


def _entry(path: Path, name: str) -> str:
    """The text of one file in an artifact."""
    from effcomp.errors import ConfigError, nearest
    from effcomp.plan.container import read_artifact
    from effcomp.plan.storage import read_entries

    entries = read_artifact(path).manifest.entries
    if name not in entries:
        raise ConfigError(f"{path} has no entry {name!r}; {nearest(name, entries)}")
    body = read_entries(path, mapped="weights.safetensors").bodies[name]
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{name} is not text: {len(body)} bytes") from None
