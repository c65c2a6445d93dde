"""Compiling ahead of time: a model and its example arguments become an artifact."""

from effcomp.ahead.compile import compile, finish
from effcomp.ahead.planning import Planned, plan_model

__all__ = ["Planned", "compile", "finish", "plan_model"]
