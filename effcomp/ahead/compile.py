"""`effcomp.compile`: export, capture, passes and plans for every target, gathered in one object."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from effcomp.ahead.signature import signature_of
from effcomp.ahead.weights import bind_weights
from effcomp.api import Compilation, build_plan, device_of, pipeline_of, target_of
from effcomp.capture import Captured, Role, decompose_exported, import_exported, snake_case
from effcomp.config import Config
from effcomp.errors import CaptureError, ConfigError
from effcomp.ir import print_graph
from effcomp.plan.container import Artifact, Stage
from effcomp.plan.cubin import Cubin
from effcomp.plan.manifest import Manifest, TargetEntry, Versions, Weights
from effcomp.plan.schema import Plan
from effcomp.runtime.kernels import build_cubins
from effcomp.runtime.model import CompiledModel
from effcomp.runtime.program import analyze
from effcomp.target import Target
from effcomp.version import __version__

__all__ = ["compile"]

# What torch.export raises for a model that it cannot trace.
_REFUSALS = (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError, KeyError)


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
    program = decompose_exported(_export(model, args, kwargs, dynamic_shapes))
    title = snake_case(type(model).__name__) if isinstance(model, nn.Module) else ""
    captured = import_exported(program, title)
    bindings, entries, tensors = bind_weights(program, captured)
    device = _device(args, kwargs, tensors)
    names = tuple(targets or ()) or ((config.target,) if config.target else ())
    chosen = [target_of(name) for name in names] or [target_of(device)]
    records = [_compile_for(target, captured, config) for target in dict.fromkeys(chosen)]
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
        {r.target.name: _cubins(r.plan, r.target, config.progress) for r in records},
    )
    return CompiledModel(artifact, tensors, device, progress=config.progress)


def _export(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        if args or kwargs or dynamic_shapes is not None:
            raise ConfigError("an exported program has its arguments already: pass it alone")
        return model
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"effcomp.compile takes a module or an exported program, not a {type(model).__name__}"
        )
    try:
        with torch.no_grad():
            return torch.export.export(
                model, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes, strict=False
            )
    except _REFUSALS as error:
        raise CaptureError(
            f"torch.export cannot trace {type(model).__name__}: {error}\nMake the model exportable "
            'with these arguments, or use torch.compile(model, backend="effcomp")'
        ) from error


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


def _cubins(plan: Plan | None, target: Target, progress: bool | None) -> tuple[Cubin, ...]:
    """The kernels of a GPU's plan and its prologue, compiled."""
    if plan is None or target.kind != "cuda":
        return ()
    own = build_cubins(analyze(plan), target.capability, progress)
    found = (*own, *_cubins(plan.prologue, target, progress))
    return tuple({cubin.facts.digest: cubin for cubin in found}.values())


def _stages(record: Compilation) -> tuple[Stage, ...]:
    assert record.run is not None, "nothing of the cache is read here"
    return tuple((stage.spec, print_graph(stage.graph)) for stage in record.run.stages)


def _triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return ""
