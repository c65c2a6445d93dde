"""The artifact on disk: one zip, written whole or not at all, checked before anything is used.

    manifest.json                     what it holds, the call's signature, digests of the rest
    plan.json                         a plan for every target, kernels without their source
    kernels/<function>-<digest>.py    Triton sources
    cubins/<target>/<digest>.cubin    compiled kernels, each with a .json of launch facts
    stages/<target>/<nn>-<pass>.ir    the program after every pass
    report.json                       what the compiler did
    weights.safetensors               stored, aligned: to be memory-mapped where it lies

Nothing here runs code that an artifact brings along.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from effcomp.errors import ArtifactError, PlanError
from effcomp.plan.cubin import Cubin, LaunchFacts, dump_facts, load_facts
from effcomp.plan.manifest import Entry, Manifest, dump_manifest, load_manifest
from effcomp.plan.schema import Plan, TritonKernel
from effcomp.plan.serialize import check_plan, dump_plan
from effcomp.plan.storage import Region, read_entries, write_aside, write_entry
from effcomp.plan.tensors import TensorData, write_tensors

__all__ = ["Artifact", "Stage", "read_artifact", "write_artifact"]

Stage = tuple[str, str]
"""A pass as a pipeline spells it, and the program after it."""

_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Artifact:
    """Everything in an artifact but the weights, which stay where they lie in the file."""

    manifest: Manifest
    plans: Mapping[str, Plan]
    stages: Mapping[str, tuple[Stage, ...]] = field(default_factory=dict[str, tuple[Stage, ...]])
    cubins: Mapping[str, tuple[Cubin, ...]] = field(default_factory=dict[str, tuple[Cubin, ...]])
    report_text: str = ""
    path: pathlib.Path | None = None
    weights: Region | None = None

    @property
    def kernels(self) -> Mapping[str, str]:
        """Kernel sources by file name."""
        kernels = (k for plan in self.plans.values() for k in _triton_kernels(plan))
        return {_kernel_name(kernel): kernel.source for kernel in kernels}


def write_artifact(
    path: str | pathlib.Path, artifact: Artifact, tensors: Mapping[str, TensorData] | None = None
) -> Manifest:
    """Write an artifact, whole or not at all; `tensors` are the weights to embed.

    Returns the manifest as written, with digests. Raises ArtifactError where it cannot be written.
    """
    with write_aside(pathlib.Path(path)) as archive:
        manifest = artifact.manifest
        if tensors:
            chunk_bytes = manifest.weights.chunk_bytes
            chunks = write_tensors(archive, _WEIGHTS, tensors, chunk_bytes)
            manifest = replace(manifest, weights=replace(manifest.weights, chunks=chunks))
        entries: dict[str, Entry] = {}
        for name, body in _files(artifact):
            if name in entries:
                continue
            write_entry(archive, name, body)
            entries[name] = Entry(len(body), hashlib.sha256(body).hexdigest())
        manifest = replace(manifest, entries=entries)
        write_entry(archive, "manifest.json", dump_manifest(manifest))
    return manifest


def read_artifact(path: str | pathlib.Path) -> Artifact:
    """Read and check an artifact. Runs nothing of it. Raises ArtifactError."""
    path = pathlib.Path(path)
    files = read_entries(path, mapped=_WEIGHTS)
    manifest = load_manifest(files.take("manifest.json"))
    if lacking := sorted(set(manifest.entries) - set(files.bodies)):
        raise ArtifactError(f"{path}: {lacking[0]} is missing")
    if unknown := sorted(set(files.bodies) - set(manifest.entries)):
        raise ArtifactError(f"{path}: {unknown[0]} is not in the manifest")
    for name, entry in manifest.entries.items():
        body = files.bodies[name]
        if len(body) != entry.size or hashlib.sha256(body).hexdigest() != entry.sha256:
            raise ArtifactError(f"{path}: {name} is damaged: its digest does not match")
    texts = {name: body for name, body in files.bodies.items() if not name.endswith(".cubin")}
    try:
        decoded = {name: body.decode() for name, body in texts.items()}
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: a text in it is not UTF-8: {error}") from None
    plans = _plans(path, decoded)
    if set(plans) != set(manifest.targets):
        raise ArtifactError(
            f"{path}: the manifest names the targets {sorted(manifest.targets)}, plan.json holds "
            f"{sorted(plans)}"
        )
    return Artifact(
        manifest,
        plans,
        {target: _stages(decoded, target) for target in plans},
        {target: _cubins(path, files.bodies, target) for target in plans},
        decoded.get("report.json", ""),
        path,
        files.mapped,
    )


# What is written.


def _files(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    bare = {
        target: json.loads(dump_plan(_without_sources(plan)))
        for target, plan in artifact.plans.items()
    }
    yield "plan.json", json.dumps({"version": 1, "targets": bare}).encode()
    for name, source in artifact.kernels.items():
        yield f"kernels/{name}", source.encode()
    for target, cubins in artifact.cubins.items():
        for cubin in cubins:
            base = f"cubins/{_folder(target)}/{cubin.facts.digest}"
            yield f"{base}.json", dump_facts(cubin.facts)
            yield f"{base}.cubin", cubin.code
    for target, stages in artifact.stages.items():
        for number, (spec, text) in enumerate(stages):
            name = spec.partition("{")[0]
            yield f"stages/{_folder(target)}/{number:02}-{name}.ir", f"// {spec}\n{text}".encode()
    if artifact.report_text:
        yield "report.json", artifact.report_text.encode()


def _folder(target: str) -> str:
    return target.replace(":", "-")


def _kernel_name(kernel: TritonKernel) -> str:
    return f"{kernel.function}-{kernel.digest[:12]}.py"


def _triton_kernels(plan: Plan) -> Iterator[TritonKernel]:
    yield from (k for k in plan.kernels if isinstance(k, TritonKernel))
    if plan.prologue is not None:
        yield from _triton_kernels(plan.prologue)


def _with_sources(plan: Plan, sources: Mapping[str, str]) -> Plan:
    kernels = tuple(
        replace(k, source=sources[_kernel_name(k)]) if isinstance(k, TritonKernel) else k
        for k in plan.kernels
    )
    inner = None if plan.prologue is None else _with_sources(plan.prologue, sources)
    return replace(plan, kernels=kernels, prologue=inner)


def _without_sources(plan: Plan) -> Plan:
    return _with_sources(plan, {_kernel_name(k): "" for k in _triton_kernels(plan)})


# What is read.


@dataclass(frozen=True)
class _PlanFile:
    version: int
    targets: dict[str, Plan]


_PLAN_FILE = TypeAdapter(_PlanFile)


def _plans(path: pathlib.Path, texts: Mapping[str, str]) -> dict[str, Plan]:
    try:
        found = _PLAN_FILE.validate_json(texts.get("plan.json", ""))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise ArtifactError(f"{path}: plan.json: {where}: {first['msg']}") from None
    if found.version != 1:
        raise ArtifactError(f"{path}: plan.json has version {found.version}, this reads version 1")
    sources = {
        name.removeprefix("kernels/"): text
        for name, text in texts.items()
        if name.startswith("kernels/")
    }
    plans: dict[str, Plan] = {}
    for target, plan in found.targets.items():
        try:
            plans[target] = _with_sources(check_plan(plan), sources)
        except KeyError as error:
            raise ArtifactError(f"{path}: the source of kernel {error} is missing") from None
        except PlanError as error:
            raise ArtifactError(f"{path}: the plan for {target}: {error}") from None
    return plans


def _stages(texts: Mapping[str, str], target: str) -> tuple[Stage, ...]:
    folder = f"stages/{_folder(target)}/"
    found: list[Stage] = []
    for name in sorted(name for name in texts if name.startswith(folder)):
        spec, _, text = texts[name].partition("\n")
        found.append((spec.removeprefix("// "), text))
    return tuple(found)


def _cubins(path: pathlib.Path, files: Mapping[str, bytes], target: str) -> tuple[Cubin, ...]:
    folder = f"cubins/{_folder(target)}/"
    found: list[Cubin] = []
    for name in sorted(files):
        if not name.startswith(folder) or not name.endswith(".json"):
            continue
        code = files.get(name.removesuffix(".json") + ".cubin")
        if code is None:
            raise ArtifactError(f"{path}: {name} has no cubin beside it")
        facts: LaunchFacts = load_facts(files[name], f"{path}: {name}")
        found.append(Cubin(facts, code))
    return tuple(found)
