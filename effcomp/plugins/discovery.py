"""Installed plugins: the entry point group `effcomp.passes`."""

import threading
import warnings
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from effcomp.errors import PluginError, PluginWarning
from effcomp.plugins.registry import Origin, registering_as, restore, snapshot

GROUP = "effcomp.passes"

_LOCK = threading.RLock()
_STATE: dict[str, PluginError | None] = {}


def load_plugins() -> None:
    """Load every installed plugin, the first time it is called.

    An entry point names a module, whose import registers things, or a function that does. A plugin
    that fails is left out with a PluginWarning. Raises PluginError where two claim one name, every
    time: what such a name means would be left to chance.
    """
    with _LOCK:
        if GROUP not in _STATE:
            _STATE[GROUP] = None  # a plugin that asks again while it loads is not loaded twice
            for point in entry_points(group=GROUP):
                try:
                    load_plugin(point)
                except PluginError as error:
                    _STATE[GROUP] = error
        if (clash := _STATE[GROUP]) is not None:
            raise clash


def forget_plugins() -> None:
    """Let the next `load_plugins` look again; what is registered stays."""
    _STATE.clear()


def load_plugin(point: EntryPoint) -> None:
    """Load one plugin; nothing of it stays where it fails."""
    dist = point.dist
    origin = Origin(dist.name, dist.version) if dist is not None else Origin(point.value)
    kept = snapshot()
    try:
        with registering_as(origin):
            found = point.load()
            if callable(found):
                found()
            elif not isinstance(found, ModuleType):
                raise TypeError(f"{point.value} is neither a module nor a function")
    except PluginError as error:
        restore(kept)
        raise PluginError(f"plugin {point.name!r} of {origin}: {error}") from error
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the compiler goes on
        restore(kept)
        warnings.warn(
            f"plugin {point.name!r} of {origin} is left out, {point.value} did not load: "
            f"{type(error).__name__}: {error}",
            PluginWarning,
            stacklevel=3,
        )
