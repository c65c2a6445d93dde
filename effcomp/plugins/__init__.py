"""What others add to the compiler: passes, rules, ops. Torch-free; loaded on first need."""

from effcomp.plugins.discovery import GROUP, load_plugins
from effcomp.plugins.registry import (
    REGISTRY,
    CustomOp,
    Origin,
    PluginPass,
    Registry,
    isolated,
    register,
    unregister,
)

__all__ = [
    "GROUP", "REGISTRY", "CustomOp", "Origin", "PluginPass", "Registry", "isolated",
    "load_plugins", "register", "unregister",
]  # fmt: skip
