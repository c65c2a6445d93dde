"""From a model to a plan for every target: all of compiling that compiles no kernel."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from effcomp import garbage
from effcomp.ahead.exporting import export
from effcomp.api import Compilation, device_of, target_of
from effcomp.capture import Captured, Role, decompose_exported, import_exported, snake_case
from effcomp.compiling import build_plan, pipeline_of
from effcomp.config import Config
from effcomp.errors import ConfigError
from effcomp.plan.cubin import Cubin
from effcomp.report.schema import Report
from effcomp.reporting import report_of, source_lines, versions
from effcomp.target import Target

__all__ = ["Planned", "plan_model"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A model with a plan for every target; `device` is the one its weights are on."""

    model: nn.Module | ExportedProgram
    program: ExportedProgram
    captured: Captured
    device: torch.device
    config: Config
    records: tuple[Compilation, ...]

    @property
    def name(self) -> str:
        return self.captured.graph.name

    @property
    def sizes(self) -> Mapping[str, int]:
        """The sizes that may change, as they are in the example."""
        return self.captured.sizes

    def report(self, cubins: Mapping[str, Sequence[Cubin]] | None = None) -> Report:
        """What was done so far, for the sizes of the example; `cubins` are by target."""
        built = cubins or {}
        graphs = tuple(
            report_of(record, self.sizes, built.get(record.target.name, ()))
            for record in self.records
        )
        return Report(
            graphs=graphs,
            title=type(self.model).__name__,
            versions=versions(),
            sources=source_lines(graphs, self.model),
        )


@garbage.frozen()
def plan_model(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    targets: Sequence[str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
) -> Planned:
    """Export and capture a model, and plan it for every target; the arguments are `compile`'s."""
    config = config if isinstance(config, Config) else Config.from_user(None, config)
    if isinstance(targets, str):
        raise ConfigError(f"targets are a list of names, such as [{targets!r}]")
    start = time.perf_counter()
    program = decompose_exported(export(model, args, kwargs, dynamic_shapes))
    title = snake_case(type(model).__name__) if isinstance(model, nn.Module) else ""
    captured = import_exported(program, title)
    seconds = time.perf_counter() - start
    held = (dict(program.state_dict), dict(program.constants))
    device = device_of(tree_leaves((args, dict(kwargs or {}), held)))
    names = tuple(targets or ()) or ((config.target,) if config.target else ())
    chosen = [target_of(name) for name in names] or [target_of(device)]
    records = tuple(_plan_for(target, captured, config) for target in dict.fromkeys(chosen))
    for record in records:
        record.seconds["capture"] = seconds
    return Planned(model, program, captured, device, config, records)


def _plan_for(target: Target, captured: Captured, config: Config) -> Compilation:
    record = Compilation(captured.graph.name, Role.INFERENCE, target, captured, plan=None)  # pyright: ignore[reportArgumentType]
    pipeline = pipeline_of(target, Role.INFERENCE, config)
    record.plan = build_plan(captured.graph, target, pipeline, record)
    return record
