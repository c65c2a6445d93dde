"""What others add to the compiler: passes, rules, ops. Torch-free; loaded on first need."""

from effcomp.plugins.custom import op
from effcomp.plugins.discovery import GROUP, load_plugins
from effcomp.plugins.registry import (
    CustomOp,
    Origin,
    PluginPass,
    Registry,
    isolated,
    register,
    registry,
    unregister,
)

__all__ = [
    "GROUP", "CustomOp", "Origin", "PluginPass", "Registry", "isolated", "load_plugins", "op",
    "register", "registry", "unregister",
]  # fmt: skip
