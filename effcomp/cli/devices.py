"""The device that a command names."""

import torch

from effcomp.errors import ConfigError, DeviceError

__all__ = ["device_named"]


def device_named(text: str | None) -> torch.device:
    """`cpu`, `cuda` or `cuda:1`; without a name the GPU, where there is one.

    Raises ConfigError for what is no device, DeviceError for one that is not here.
    """
    count = torch.cuda.device_count()
    try:
        device = torch.device(text or ("cuda" if count else "cpu"))
    except RuntimeError:
        raise ConfigError(f"--device {text!r} is none of cpu, cuda, cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"effcomp runs on cpu and cuda, not on {device.type!r}")
    if device.type == "cuda" and (device.index or 0) >= count:
        here = f"{count} GPU(s) are here" if count else "no GPU is here that torch can use"
        raise DeviceError(f"there is no device {device}: {here}; `effcomp doctor` says more")
    return device
