"""The driver: capture -> passes -> codegen -> runtime, and the doors users come through.

Nothing that compiles is imported before it is needed: capture where a trace does not lead to a
plan, passes and code generation (in `compiling`) where the cache holds no plan at all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from effcomp import cache, garbage
from effcomp.boxed import Boxed, unboxed
from effcomp.compilation import Compilation, collected, recording
from effcomp.config import Config
from effcomp.errors import DeviceError
from effcomp.plan.schema import Plan
from effcomp.plugins import load_plugins
from effcomp.plugins.digest import registered_text
from effcomp.runtime import Executable, KeptCubins, load, prepare_to_compile
from effcomp.runtime.cuda_launch import capability_of
from effcomp.target import TARGETS, Target, fitting_target
from effcomp.trace_cache import TracePlace, place_of

if TYPE_CHECKING:
    from effcomp.capture import Captured, Role

__all__ = [
    "Compilation",
    "backend",
    "compile_captured",
    "recording",
    "reset",
    "target_of",
]


def backend(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """The torch.compile backend. Raises ConfigError for a mode or option it does not know."""
    with garbage.frozen():
        return _compiled(gm, example_inputs, Config.from_user(mode, options))


def _compiled(
    gm: torch.fx.GraphModule, example_inputs: Sequence[Any], config: Config
) -> Callable[..., Any]:
    """The plan that a known trace leads to, else whatever capturing the graph leads to."""
    # Asked here: a GPU's backward pass is compiled in autograd's thread, which has another context.
    found = collected()
    place = _place_of(gm, example_inputs, config, found)
    if place is not None and (plan := place.read()) is not None:
        return unboxed(_load(plan, device_of(example_inputs), config))

    from effcomp.capture import compile_dynamo

    def compile_graph(captured: Captured, role: Role) -> Boxed:
        record = compile_captured(captured, role, config, device_of(example_inputs), found)
        if place is not None:
            place.note(captured, role, record.plan_key)
        assert record.executable is not None, "compiling ends in loading"
        return record.executable

    compiled = compile_dynamo(gm, example_inputs, compile_graph)
    if place is not None:
        place.keep()
    return compiled


def _place_of(
    gm: torch.fx.GraphModule,
    inputs: Sequence[Any],
    config: Config,
    found: list[Compilation] | None,
) -> TracePlace | None:
    """Where a graph stands in the trace cache; None where the cache is not to be used for it."""
    if not _uses_cache(config, found):
        return None
    try:
        target = target_of(config.target or device_of(inputs))
    except DeviceError:
        return None  # raised again, and reported, once there is something to compile
    return place_of(gm, inputs, config, target)


def reset() -> None:
    """Forget what the runtime keeps between calls; torch._dynamo.reset() calls this."""
    from effcomp.runtime import release

    release()


backend.reset = reset  # pyright: ignore[reportFunctionMemberAccess]


def compile_captured(
    captured: Captured,
    role: Role,
    config: Config,
    device: torch.device,
    found: list[Compilation] | None = None,
) -> Compilation:
    """Compile one captured graph for a device and load it.

    What was done is appended to `found`; then the plan is made, not taken from the cache.
    """
    target = target_of(config.target or device)
    record = Compilation(captured.graph.name, role, target, captured, plan=None)  # pyright: ignore[reportArgumentType]
    with _timed(record, "plan"):
        use_cache = _uses_cache(config, found)
        record.plan = _cached_plan(captured, device, config, record, use_cache=use_cache)
    with _timed(record, "load"):
        record.executable = _load(record.plan, device, config, captured.constants)
    if found is not None:
        found.append(record)
    return record


def _uses_cache(config: Config, found: list[Compilation] | None) -> bool:
    """Whether plans may come from the cache: whoever records wants every stage to be run."""
    return config.cache and found is None and not config.trace


def _load(
    plan: Plan, device: torch.device, config: Config, constants: Sequence[torch.Tensor] = ()
) -> Executable:
    return load(
        plan,
        device,
        constants=constants,
        cuda_graphs=config.cuda_graphs,
        regions=config.regions,
        progress=config.progress,
        kept=_kept_cubins() if config.cache else None,
    )


def _kept_cubins() -> KeptCubins:
    return KeptCubins(cache.cache_folder() / "cubins", cache.source_digest())


def _cached_plan(
    captured: Captured,
    device: torch.device,
    config: Config,
    record: Compilation,
    *,
    use_cache: bool,
) -> Plan:
    target, role = record.target, record.role
    key = record.plan_key = _key(captured, target, role, config) if use_cache else ""
    if use_cache and (plan := cache.read(key)) is not None:
        return plan
    # Not needed for a plan from the cache, and most of what effcomp has to import.
    from effcomp.compiling import build_plan, pipeline_of

    pipeline = pipeline_of(target, role, config)
    prepare_to_compile(device)
    plan = build_plan(captured.graph, target, pipeline, record, captured.results)
    if use_cache:
        cache.write(key, plan)
    return plan


def _key(captured: Captured, target: Target, role: Role, config: Config) -> str:
    """The key of a plan: the program, and what decides its pipeline and how it is lowered."""
    from effcomp.ir import print_graph

    load_plugins()
    decisive = (target.name, role.value, config.key(), registered_text())
    program = (print_graph(captured.graph), repr(captured.results))
    return cache.key_of((*program, *decisive, torch.__version__))


def device_of(inputs: Sequence[Any]) -> torch.device:
    """The one device that a graph's tensors live on; CPU scalars beside CUDA tensors are fine."""
    devices = {
        t.device
        for t in inputs
        if isinstance(t, torch.Tensor) and not (t.ndim == 0 and t.device.type == "cpu")
    }
    if len(devices) > 1:
        raise DeviceError(
            f"a graph reads tensors of several devices: "
            f"{', '.join(sorted(map(str, devices)))}; move them to one"
        )
    return devices.pop() if devices else torch.device("cpu")


def target_of(device: torch.device | str) -> Target:
    """The target for a device, or by name ("cuda:90"). Raises DeviceError for a kind effcomp lacks.

    A GPU between two known ones compiles for the lower.
    """
    if isinstance(device, str):
        if device not in TARGETS:
            raise DeviceError(f"no target {device!r}; there are: {', '.join(sorted(TARGETS))}")
        return TARGETS[device]
    if device.type == "cpu":
        return TARGETS["cpu"]
    if device.type != "cuda":
        raise DeviceError(
            f"effcomp compiles for cuda and cpu, not for {device.type!r}; "
            "move the model or use another backend"
        )
    capability = capability_of(device)
    found = fitting_target(TARGETS.values(), capability)
    if found is None:
        raise DeviceError(
            f"{torch.cuda.get_device_name(device)} is sm_{capability}; effcomp needs sm_80"
        )
    return found


@contextlib.contextmanager
def _timed(record: Compilation, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        record.seconds[stage] = time.perf_counter() - start
