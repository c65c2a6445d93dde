"""A compiled model: called as the model is, saved, and given other weights."""

import pathlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from effcomp.errors import ArtifactError, DeviceError
from effcomp.plan.container import Artifact, Stage, write_artifact
from effcomp.plan.manifest import FromCall
from effcomp.plan.schema import Plan
from effcomp.plan.signature import Signature
from effcomp.report.schema import Report
from effcomp.runtime.calling import Caller, build_result
from effcomp.runtime.cuda_launch import capability_of
from effcomp.runtime.executable import Executable
from effcomp.runtime.loading import load as load_plan
from effcomp.runtime.lora import LoraSource, changes_of, merged
from effcomp.runtime.profiling import profiling
from effcomp.runtime.saving import chosen_weights
from effcomp.runtime.weights import WeightSource, WeightStore, telling_memory
from effcomp.target import TARGETS, fitting_target

__all__ = ["CompiledModel", "check_entries", "require_target", "target_for"]


class CompiledModel:
    """A model compiled ahead of time. Inference only: no gradients flow through it.

    It takes the arguments that it was compiled for, by position or by name, and returns what the
    model does; objects of other libraries come back as dicts of their fields. Python constants of
    the call have to be the same, or can be left out. Buffers that calls write to (caches) are its
    own state.
    """

    def __init__(
        self,
        artifact: Artifact,
        weights: WeightStore,
        *,
        progress: bool | None = None,
        remarks: Sequence[str] = (),
        prepare: bool = True,
    ) -> None:
        """Without `prepare` nothing is loaded on the device before the first call."""
        self._artifact, self._weights, self._progress = artifact, weights, progress
        self._remarks = tuple(remarks)
        self._caller = Caller(artifact.manifest.name, artifact.manifest.signature)
        self._executable: Executable | None = None
        self._base: dict[str, torch.Tensor] = {}  # of what an adapter has changed
        self._lock = threading.RLock()
        self._bind()
        if prepare and target_for(artifact.manifest.targets, self.device) is not None:
            self._load()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model. Raises ArtifactError for arguments that it was not compiled for."""
        inputs = self._caller.inputs(args, kwargs)
        with self._lock:
            executable = self._executable or self._load()
            given = self._template.copy()
            for port, index in self._ports:
                given[port] = inputs[index]
            return build_result(self.signature.result, executable(given))

    @property
    def device(self) -> torch.device:
        """Where the weights are, and calls run."""
        return self._weights.device

    def profile(self, *args: Any, **kwargs: Any) -> tuple[float, ...]:
        """Call the model, and return the seconds that each step of the plan took.

        Call it once before: the first call of all binds memory, and libraries make themselves
        ready. State that the model keeps advances as it does with any call.
        """
        with profiling() as times:
            self(*args, **kwargs)
        return times[self._executable]

    @property
    def signature(self) -> Signature:
        """How it is called, and the sizes that it takes."""
        return self._artifact.manifest.signature

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The plan for every target."""
        return self._artifact.plans

    @property
    def stages(self) -> Mapping[str, tuple[Stage, ...]]:
        """For every target the passes, each with the program after it."""
        return self._artifact.stages

    @property
    def report(self) -> Report:
        """What the compiler did, for the sizes that the model was compiled with."""
        return Report.from_json(self._artifact.report_text)

    @property
    def target(self) -> str:
        """The target whose plan runs on the device. Raises DeviceError where there is none."""
        found = target_for(self._artifact.manifest.targets, self.device)
        if found is None:
            raise _no_target(self._artifact, self.device)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What runs otherwise than asked for, each remark with its count."""
        if self._executable is None:
            return self._remarks
        return (*self._remarks, *self._executable.plan.notes, *self._executable.notes)

    @property
    def peak_bytes(self) -> int:
        """Bytes that the last call held at once, beside arguments and weights."""
        return self._executable.peak_bytes if self._executable else 0

    def save(
        self,
        path: str | pathlib.Path,
        *,
        weights: Literal["embed", "reference", "omit"] = "embed",
        files: Sequence[str | pathlib.Path] = (),
    ) -> None:
        """Write the artifact, whole or not at all, with the weights as they are now.

        "reference" leaves them in the safetensors `files`, by default those that they were loaded
        from, and records where they lie; "omit" expects them when the artifact is loaded. What is
        in no state dict is embedded in any case. Raises ArtifactError.
        """
        with self._lock:
            manifest = self._artifact.manifest
            table, tensors = chosen_weights(
                pathlib.Path(path), manifest.weights, self._weights, weights, files
            )
            artifact = replace(self._artifact, manifest=replace(manifest, weights=table))
            write_artifact(path, artifact, tensors)

    def load_weights(self, source: WeightSource) -> None:
        """Take other weights of the same names and shapes: a state dict, or safetensors files.

        All are checked before any is overwritten. An adapter is forgotten. Raises ArtifactError.
        """
        with self._lock:
            try:
                self._weights.replace(source)
                self._base.clear()
            finally:
                self._bind()

    def set_lora(self, source: LoraSource | None, scale: float = 1.0) -> None:
        """Run with a low-rank adapter, in place of the one before; None: with the weights alone.

        The weights that it changes are kept once more, on the same device where they fit. Raises
        ArtifactError for an adapter that names or changes what the model does not have.
        """
        with self._lock:
            entries = self._weights.entries
            changes = {} if source is None else changes_of(source, entries)
            wanted = {entries[name].tensor: change for name, change in changes.items()}
            self._restore(key for key in tuple(self._base) if key not in wanted)
            try:
                with telling_memory(self.device, entries):
                    for key, change in wanted.items():
                        base = self._keep(key)
                        self._weights.write(key, merged(base.to(self.device), change, scale))
            except BaseException:
                self._restore(tuple(self._base))
                raise
            finally:
                self._bind()

    def _keep(self, key: str) -> torch.Tensor:
        """The weight as it is without an adapter, kept for as long as there is one."""
        if key not in self._base:
            tensor = self._weights.tensors[key]
            try:
                self._base[key] = tensor.clone()
            except torch.OutOfMemoryError:
                self._base[key] = tensor.cpu()
        return self._base[key]

    def _restore(self, keys: Any) -> None:
        for key in keys:
            self._weights.write(key, self._base.pop(key))

    def _load(self) -> Executable:
        """Make the plan for the device callable."""
        with self._lock:
            if self._executable is None:
                target = self.target
                options = self._artifact.manifest.targets[target]
                self._executable = load_plan(
                    self.plans[target],
                    self.device,
                    cuda_graphs=options.cuda_graphs,
                    regions=options.regions,
                    progress=self._progress,
                    cubins=self._artifact.cubins.get(target, ()),
                )
            return self._executable

    def _bind(self) -> None:
        """Put the weights where calls find them."""
        template: list[Any] = []
        ports: list[tuple[int, int]] = []
        for port, binding in enumerate(self._artifact.manifest.bindings):
            if isinstance(binding, FromCall):
                ports.append((port, binding.index))
                template.append(None)
            else:
                template.append(self._weights.named(binding.name))
        self._template, self._ports = template, tuple(ports)


def target_for(targets: Mapping[str, Any], device: torch.device) -> str | None:
    """The best of these targets for a device; None where none fits."""
    if device.type == "cpu":
        return "cpu" if "cpu" in targets else None
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    known = [TARGETS[name] for name in targets if name in TARGETS]
    found = fitting_target(known, capability_of(device))
    return found.name if found is not None else None


def require_target(artifact: Artifact, device: torch.device) -> None:
    """Raises DeviceError where the artifact holds nothing for the device."""
    if target_for(artifact.plans, device) is None:
        raise _no_target(artifact, device)


def check_entries(artifact: Artifact) -> None:
    """Raises ArtifactError where bindings and plans do not belong together."""
    manifest = artifact.manifest
    for target, plan in artifact.plans.items():
        if len(plan.ports) != len(manifest.bindings):
            raise ArtifactError(
                f"the plan for {target} has {len(plan.ports)} ports, the manifest binds "
                f"{len(manifest.bindings)}"
            )
    for binding in manifest.bindings:
        if isinstance(binding, FromCall):
            known = 0 <= binding.index < len(manifest.signature.inputs)
        else:
            known = binding.name in manifest.weights.entries
        if not known:
            raise ArtifactError(f"the manifest binds {binding}, which is not there")


def _no_target(artifact: Artifact, device: torch.device) -> DeviceError:
    held = ", ".join(sorted(artifact.plans))
    if device.type == "cuda" and torch.cuda.is_available():
        what = f"{device} is a {torch.cuda.get_device_name(device)} (sm_{capability_of(device)})"
    elif device.type == "cuda":
        what = "torch sees no CUDA device here"
    else:
        what = f"this device is {device}"
    return DeviceError(
        f"{artifact.manifest.name} was compiled for {held}, but {what}: load it on such a device, "
        "or compile it for this one as well"
    )
