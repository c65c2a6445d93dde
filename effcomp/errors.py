"""Every exception effcomp raises on purpose, and how their messages hint at names."""

import difflib
from collections.abc import Iterable


class EffcompError(Exception):
    """Base class: catch this to catch anything effcomp reports."""


class VerifyError(EffcompError):
    """The IR breaks an invariant; the message shows the op and its neighbours."""


class PassError(EffcompError):
    """A pass failed or broke the IR; the message names it and the pipeline that reproduces it.

    `pipeline` is that pipeline by itself; empty where a pass raises this about its own work.
    """

    def __init__(self, message: str, pipeline: str = "") -> None:
        super().__init__(message)
        self.pipeline = pipeline


class ParseError(EffcompError):
    """Textual IR is malformed; the message carries the line."""


class ConfigError(EffcompError):
    """A mode or option is unknown or has a value that cannot be used."""


class PluginError(EffcompError):
    """Two plugins claim one name, or a plugin states what cannot be; the message names both."""


class SourceError(EffcompError):
    """A model, or inputs for it, could not be found or loaded; the message says what was tried."""


class CaptureError(EffcompError):
    """A model could not be imported; the message names the node and its source line."""


class LoweringError(EffcompError):
    """No emitter takes an op; the message names the op, its types and its source line."""


class KernelError(EffcompError):
    """A generated kernel did not compile or launch; the message names the kernel."""


class PlanError(EffcompError):
    """A plan is malformed or does not fit what it was called with."""


class ArtifactError(EffcompError):
    """An artifact is damaged, of another version, or not what a call or a device asks for."""


class DeviceError(EffcompError):
    """A device is missing, unsupported or out of memory."""


class ReportError(EffcompError):
    """A report cannot be read or written; the message says where it goes wrong."""


class MlirError(EffcompError):
    """A graph cannot be exported to an MLIR dialect; the message names the op and its line."""


class CacheWarning(UserWarning):
    """A compile cache entry was unusable and has been rebuilt."""


class PluginWarning(UserWarning):
    """An installed plugin did not load and has been left out; the message names it."""


class FallbackWarning(UserWarning):
    """Something ran on a slower path than asked for; `explain` counts these."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a message about an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
