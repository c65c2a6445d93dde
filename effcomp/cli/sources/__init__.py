"""Where a command's model comes from: files, factories, diffusers, transformers."""

from effcomp.cli.sources.resolve import resolve
from effcomp.cli.sources.source import Source

__all__ = ["Source", "resolve"]
