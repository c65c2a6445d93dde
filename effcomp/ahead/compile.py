"""`effcomp.compile`: export, capture, passes and plans for every target, gathered in one object."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from effcomp.ahead.exporting import export
from effcomp.ahead.signature import example_sizes, signature_of
from effcomp.ahead.weights import bind_weights
from effcomp.api import Compilation, build_plan, device_of, pipeline_of, target_of
from effcomp.capture import Captured, Role, decompose_exported, import_exported, snake_case
from effcomp.config import Config
from effcomp.errors import ConfigError
from effcomp.ir import print_graph
from effcomp.plan.container import Artifact, Stage
from effcomp.plan.cubin import Cubin
from effcomp.plan.manifest import Manifest, TargetEntry, Versions, Weights
from effcomp.report.schema import Report
from effcomp.reporting import report_of, versions
from effcomp.runtime.kernels import build_cubins
from effcomp.runtime.model import CompiledModel
from effcomp.runtime.program import analyze
from effcomp.runtime.weights import WeightStore
from effcomp.target import Target
from effcomp.version import __version__

__all__ = ["compile"]


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
    config = config if isinstance(config, Config) else Config.from_user(None, config)
    if isinstance(targets, str):
        raise ConfigError(f"targets are a list of names, such as [{targets!r}]")
    start = time.perf_counter()
    program = decompose_exported(export(model, args, kwargs, dynamic_shapes))
    title = snake_case(type(model).__name__) if isinstance(model, nn.Module) else ""
    captured = import_exported(program, title)
    capture_seconds = time.perf_counter() - start
    bindings, entries, tensors = bind_weights(program, captured)
    device = _device(args, kwargs, tensors)
    names = tuple(targets or ()) or ((config.target,) if config.target else ())
    chosen = [target_of(name) for name in names] or [target_of(device)]
    records = [_compile_for(target, captured, config) for target in dict.fromkeys(chosen)]
    cubins = {r.target.name: _cubins(r, config.progress) for r in records}
    for record in records:
        record.seconds["capture"] = capture_seconds
    manifest = Manifest(
        name=captured.graph.name,
        versions=Versions(__version__, torch.__version__, _triton_version()),
        signature=signature_of(program, captured, model),
        bindings=bindings,
        targets={r.target.name: TargetEntry(config.cuda_graphs, config.regions) for r in records},
        weights=Weights(entries),
    )
    artifact = Artifact(
        manifest,
        {r.target.name: r.plan for r in records},
        {r.target.name: _stages(r) for r in records},
        cubins,
        _report(records, type(model).__name__, example_sizes(program, captured)),
    )
    shared = {entry.tensor for entry in entries.values() if not entry.state}
    store = WeightStore(entries, tensors, device, shared)
    return CompiledModel(artifact, store, progress=config.progress)


def _device(
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    tensors: Mapping[str, torch.Tensor],
) -> torch.device:
    leaves = tree_leaves((args, dict(kwargs or {})))
    return device_of([*leaves, *tensors.values()])


def _compile_for(target: Target, captured: Captured, config: Config) -> Compilation:
    record = Compilation(captured.graph.name, Role.INFERENCE, target, captured, plan=None)  # pyright: ignore[reportArgumentType]
    pipeline = pipeline_of(target, Role.INFERENCE, config)
    record.plan = build_plan(captured.graph, target, pipeline, record)
    return record


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


def _report(records: Sequence[Compilation], title: str, sizes: Mapping[str, int]) -> str:
    graphs = tuple(report_of(record, sizes) for record in records)
    return Report(graphs=graphs, title=title, versions=versions()).to_json()


def _stages(record: Compilation) -> tuple[Stage, ...]:
    assert record.run is not None, "nothing of the cache is read here"
    return tuple((stage.spec, print_graph(stage.graph)) for stage in record.run.stages)


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return ""
