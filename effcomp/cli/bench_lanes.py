"""What `effcomp bench` runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from effcomp.api import backend
from effcomp.cli.artifact_inputs import made_up_inputs, read_inputs
from effcomp.cli.devices import device_named
from effcomp.cli.sources import Source, resolve
from effcomp.cli.tensor_files import flatten
from effcomp.cli.timing import Lane
from effcomp.config import Config
from effcomp.errors import ConfigError
from effcomp.runtime.opening import load

__all__ = ["lanes_of", "relative_error"]

_MODES = {"inductor": None, "inductor-reduce-overhead": "reduce-overhead",
          "inductor-max-autotune": "max-autotune"}  # fmt: skip


def lanes_of(
    subject: str | None,
    model: str | None,
    library: str | None,
    peers: Sequence[str],
    config: Config,
    *,
    inputs: Path | None,
    sizes: Mapping[str, int],
    dtype: str | None,
    device: str | None,
) -> tuple[dict[str, Lane], torch.device]:
    """effcomp's lane first, then its peers' as far as there is a model to run."""
    is_artifact = subject is not None and subject.endswith(".eff")
    if model is not None and not is_artifact:
        raise ConfigError("--model is what an artifact is compared with; a model stands alone")
    where = device_named(device)
    named = model if is_artifact else subject
    source = None
    if named is not None or library is not None:
        fixed = named is not None and named.endswith(".pt2")  # such a program stays where it is
        source = resolve(
            named, library, inputs=inputs, sizes=sizes, dtype=dtype,
            device=device if fixed else str(where),
        )  # fmt: skip
        where = _device_of(source) or where
    elif not is_artifact:
        raise ConfigError("name an artifact, a model, or --from LIBRARY:PATH")
    lanes: dict[str, Lane] = {}
    if is_artifact:
        assert subject is not None, "an artifact has a name"
        lanes["effcomp"] = Lane(
            "effcomp", _artifact_call(subject, source, inputs, where), required=True
        )
    else:
        assert source is not None, "checked above"
        lanes["effcomp"] = Lane(
            "effcomp", _compiled(source, backend, options=_options(config)), required=True
        )
    if source is not None:
        for peer in peers:
            lanes[peer] = Lane(peer, _peer(peer, source))
    return lanes, where


def _device_of(source: Source) -> torch.device | None:
    """Where the arguments of its call are."""
    leaves = tree_leaves(source.call_arguments())
    return next((leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)), None)


def relative_error(got: Any, expected: Any) -> float:
    """|got - expected| / |expected| over all floating-point tensors of two results."""
    ours, theirs = _floats(got), _floats(expected)
    if [t.shape for t in ours] != [t.shape for t in theirs]:
        return float("inf")
    apart = sum(float((a - b).norm() ** 2) for a, b in zip(ours, theirs, strict=True))
    size = sum(float(b.norm() ** 2) for b in theirs)
    return (apart / size) ** 0.5 if size else apart**0.5


def _floats(result: Any) -> list[torch.Tensor]:
    leaves = [leaf for _, leaf in flatten(result) if isinstance(leaf, torch.Tensor)]
    return [leaf.double() for leaf in leaves if leaf.is_floating_point()]


def _options(config: Config) -> dict[str, Any]:
    return config.model_dump(exclude_defaults=True)


def _artifact_call(
    path: str, source: Source | None, inputs: Path | None, device: torch.device
) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        loaded = load(path, device)
        if source is not None:
            args, kwargs = source.call_arguments()
        elif inputs is not None:
            args, kwargs = read_inputs(inputs, loaded.signature, device)
        else:
            args, kwargs = made_up_inputs(loaded.signature, {}, 0, device)
        return lambda: loaded(*args, **kwargs)

    return prepare


def _compiled(source: Source, compiler: Any, **more: Any) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        args, kwargs = source.call_arguments()
        call = torch.compile(source.module, backend=compiler, dynamic=False, **more)
        return lambda: call(*args, **kwargs)

    return prepare


def _peer(name: str, source: Source) -> Callable[[], Callable[[], Any]]:
    if name in _MODES:
        return _compiled(source, "inductor", mode=_MODES[name])

    def eager() -> Callable[[], Any]:
        args, kwargs = source.call_arguments()
        module = source.module
        return lambda: module(*args, **kwargs)

    return eager
