"""A compiled model: called as the model is, saved, and given other weights."""

import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import torch

from effcomp.errors import ArtifactError, DeviceError
from effcomp.plan.container import Artifact, Stage, write_artifact
from effcomp.plan.manifest import FromCall
from effcomp.plan.schema import Plan
from effcomp.plan.signature import Signature
from effcomp.runtime.calling import Caller, build_result
from effcomp.runtime.executable import Executable
from effcomp.runtime.loading import load as load_plan
from effcomp.runtime.saving import stored_tensors
from effcomp.target import TARGETS, fitting_target

__all__ = ["CompiledModel", "target_for"]


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
        tensors: dict[str, torch.Tensor],
        device: torch.device,
        *,
        progress: bool | None = None,
    ) -> None:
        self._artifact, self._tensors, self._progress = artifact, tensors, progress
        self.device = device
        self._caller = Caller(artifact.manifest.name, artifact.manifest.signature)
        self._executable: Executable | None = None
        self._lock = threading.RLock()
        if target_for(artifact.manifest.targets, device) is not None:
            self._load()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model. Raises ArtifactError for arguments that it was not compiled for."""
        inputs = self._caller.inputs(args, kwargs)
        executable = self._executable or self._load()
        given = self._template.copy()
        for port, index in self._ports:
            given[port] = inputs[index]
        return build_result(self.signature.result, executable(given))

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
            return ()
        return (*self._executable.plan.notes, *self._executable.notes)

    @property
    def peak_bytes(self) -> int:
        """Bytes that the last call held at once, beside arguments and weights."""
        return self._executable.peak_bytes if self._executable else 0

    def save(self, path: str | pathlib.Path) -> None:
        """Write the artifact, whole or not at all. Raises ArtifactError."""
        write_artifact(path, self._artifact, stored_tensors(self._tensors))

    def _load(self) -> Executable:
        """Make the plan for the device callable."""
        with self._lock:
            if self._executable is None:
                target = self.target
                options = self._artifact.manifest.targets[target]
                self._bind()
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
        manifest = self._artifact.manifest
        entries = manifest.weights.entries
        template: list[Any] = []
        ports: list[tuple[int, int]] = []
        for port, binding in enumerate(manifest.bindings):
            if isinstance(binding, FromCall):
                ports.append((port, binding.index))
                template.append(None)
            else:
                template.append(self._tensors[entries[binding.name].tensor])
        self._template, self._ports = template, tuple(ports)


def target_for(targets: Mapping[str, Any], device: torch.device) -> str | None:
    """The best of these targets for a device; None where none fits."""
    if device.type == "cpu":
        return "cpu" if "cpu" in targets else None
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    known = [TARGETS[name] for name in targets if name in TARGETS]
    found = fitting_target(known, major * 10 + minor)
    return found.name if found is not None else None


def _no_target(artifact: Artifact, device: torch.device) -> DeviceError:
    held = ", ".join(sorted(artifact.plans))
    if device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        what = f"{device} is a {torch.cuda.get_device_name(device)} (sm_{major}{minor})"
    elif device.type == "cuda":
        what = "torch sees no CUDA device here"
    else:
        what = f"this device is {device}"
    return DeviceError(
        f"{artifact.manifest.name} was compiled for {held}, but {what}: load it on such a device, "
        "or compile it for this one as well"
    )


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
