"""Compiling ahead of time: a model and its example arguments become an artifact."""

from effcomp.ahead.compile import compile

__all__ = ["compile"]
