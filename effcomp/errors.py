"""Every exception effcomp raises on purpose."""


class EffcompError(Exception):
    """Base class: catch this to catch anything effcomp reports."""


class VerifyError(EffcompError):
    """The IR breaks an invariant; the message shows the op and its neighbours."""


class PassError(EffcompError):
    """A pass failed or broke the IR; the message names it and the pipeline that reproduces it."""


class ParseError(EffcompError):
    """Textual IR is malformed; the message carries the line."""


class ConfigError(EffcompError):
    """A mode or option is unknown or has a value that cannot be used."""


class PluginError(EffcompError):
    """Two plugins claim one name, or a plugin states what cannot be; the message names both."""


class CaptureError(EffcompError):
    """A model could not be imported; the message names the node and its source line."""


class LoweringError(EffcompError):
    """No emitter takes an op; the message names the op, its types and its source line."""


class KernelError(EffcompError):
    """A generated kernel did not compile or launch; the message names the kernel."""


class PlanError(EffcompError):
    """A plan is malformed or does not fit what it was called with."""


class DeviceError(EffcompError):
    """A device is missing, unsupported or out of memory."""


class CacheWarning(UserWarning):
    """A compile cache entry was unusable and has been rebuilt."""


class PluginWarning(UserWarning):
    """An installed plugin did not load and has been left out; the message names it."""


class FallbackWarning(UserWarning):
    """Something ran on a slower path than asked for; `explain` counts these."""
