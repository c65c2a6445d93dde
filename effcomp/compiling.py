"""The driver's cold half: from a captured graph to its plan.

A plan that the cache holds needs nothing of this, and importing it takes longer than reading one.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from effcomp.capture import Role
from effcomp.codegen import lower_graph
from effcomp.compilation import Compilation
from effcomp.config import Config
from effcomp.errors import ConfigError
from effcomp.ir import Graph, Result
from effcomp.passes import known_passes
from effcomp.passes.pipelines import pipeline_for
from effcomp.plan.schema import Plan
from effcomp.reference import region_of
from effcomp.rewrite import Pipeline, parse_pipeline
from effcomp.runtime.arena_order import with_arena_order
from effcomp.target import Target

__all__ = ["build_plan", "pipeline_of"]


def build_plan(
    graph: Graph,
    target: Target,
    pipeline: Pipeline,
    record: Compilation | None = None,
    results: Sequence[Result] | None = None,
) -> Plan:
    """Passes, code generation, and the order of the arena. Needs no device.

    `results` are what the plan returns of the graph's outputs: all of them where nothing is said.
    """
    start = time.perf_counter()
    run = pipeline.run(graph)
    passed = time.perf_counter()
    plan = lower_graph(run.graph, target, region_of=region_of, results=results)
    lowered = time.perf_counter()
    sizes = record.captured.sizes if record is not None else {}
    plan = with_arena_order(plan, sizes, torch.device(target.kind))
    if record is not None:
        record.run = run
        record.seconds["passes"] = passed - start
        record.seconds["codegen"] = lowered - passed
        record.seconds["arena"] = time.perf_counter() - lowered
    return plan


def pipeline_of(target: Target, role: Role, config: Config) -> Pipeline:
    """The pipeline that `config` asks for. Raises ConfigError for a pass nobody declared."""
    known = known_passes()
    if config.pipeline is not None:
        return replace(parse_pipeline(config.pipeline, known), trace=config.trace)
    for name in config.disable:
        if name not in known:
            raise ConfigError(
                f"option 'disable' names no pass {name!r}; there are: {', '.join(sorted(known))}"
            )
    made = pipeline_for(
        target,
        training=role is not Role.INFERENCE,
        horizontal_rows=config.horizontal_rows,
    )
    return replace(made.without(config.disable), trace=config.trace)
