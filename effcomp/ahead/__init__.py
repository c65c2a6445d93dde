"""Compiling ahead of time: a model and its example arguments become an artifact."""

from effcomp.ahead.compile import Planned, compile, plan_model

__all__ = ["Planned", "compile", "plan_model"]
