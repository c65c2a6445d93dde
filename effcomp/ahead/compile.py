"""`effcomp.compile`: export, capture, passes and plans for every target, gathered in one object."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from effcomp.ahead.planning import Planned, plan_model
from effcomp.ahead.signature import signature_of
from effcomp.ahead.weights import bind_weights
from effcomp.compilation import Compilation
from effcomp.config import Config
from effcomp.ir import print_graph
from effcomp.plan.container import Artifact, Stage
from effcomp.plan.cubin import Cubin
from effcomp.plan.manifest import Manifest, TargetEntry, Versions, Weights
from effcomp.runtime.kernels import build_cubins
from effcomp.runtime.model import CompiledModel
from effcomp.runtime.program import analyze
from effcomp.runtime.weights import WeightStore
from effcomp.version import __version__

__all__ = ["compile", "finish"]


def compile(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    targets: Sequence[str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
) -> CompiledModel:
    """Compile a model for inference, ahead of time.

    A module is exported for the example arguments `args` and `kwargs`; `dynamic_shapes` says, as
    torch.export takes it, which of their sizes may change. `targets` are names such as "cuda:90"
    and "cpu", which this machine need not have; without them it is the device that the weights are
    on. The result is called as the model is, and can be saved. It shares the model's weights until
    its own are replaced, but for buffers that calls write to: of those it has copies.

    Raises CaptureError for a model that cannot be exported, ConfigError and DeviceError for options
    and targets that do not exist.
    """
    planned = plan_model(
        model, args, kwargs, dynamic_shapes=dynamic_shapes, targets=targets, config=config
    )
    return finish(planned)


def finish(planned: Planned, *, prepare: bool = True) -> CompiledModel:
    """Compile the kernels for other machines, and gather everything in one object.

    Without `prepare` what this machine needs to run it is left to the first call.
    """
    captured, config, records = planned.captured, planned.config, planned.records
    bindings, entries, tensors = bind_weights(planned.program, captured)
    cubins = {r.target.name: _cubins(r, config.progress) for r in records}
    manifest = Manifest(
        name=planned.name,
        versions=Versions(__version__, torch.__version__, _triton_version()),
        signature=signature_of(planned.program, captured, planned.model),
        bindings=bindings,
        targets={r.target.name: TargetEntry(config.cuda_graphs, config.regions) for r in records},
        weights=Weights(entries),
    )
    artifact = Artifact(
        manifest,
        {r.target.name: r.plan for r in records},
        {r.target.name: _stages(r) for r in records},
        cubins,
        planned.report(cubins).to_json(),
    )
    shared = {entry.tensor for entry in entries.values() if not entry.state}
    store = WeightStore(entries, tensors, planned.device, shared)
    return CompiledModel(artifact, store, progress=config.progress, prepare=prepare)


def _cubins(record: Compilation, progress: bool | None) -> tuple[Cubin, ...]:
    """The kernels of a GPU's plan and its prologue, compiled."""
    if record.target.kind != "cuda":
        return ()
    start = time.perf_counter()
    plans = (record.plan, record.plan.prologue)
    programs = [analyze(plan) for plan in plans if plan is not None]
    built = [c for p in programs for c in build_cubins(p, record.target.capability, progress)]
    record.seconds["kernels"] = time.perf_counter() - start
    return tuple({cubin.facts.digest: cubin for cubin in built}.values())


def _stages(record: Compilation) -> tuple[Stage, ...]:
    assert record.run is not None, "nothing of the cache is read here"
    return tuple((stage.spec, print_graph(stage.graph)) for stage in record.run.stages)


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return ""
