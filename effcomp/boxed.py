"""How compiled graphs are called: boxed, with their arguments in one list that they may empty."""

from collections.abc import Callable
from typing import Any

__all__ = ["Boxed", "boxed", "unboxed"]

Boxed = Callable[[list[Any]], list[Any]]


def boxed(function: Boxed) -> Boxed:
    """Mark a function for AOTAutograd as boxed."""

    def run(args: list[Any]) -> list[Any]:
        return function(args)

    run._boxed_call = True  # pyright: ignore[reportFunctionMemberAccess]
    return run


def unboxed(compiled: Boxed) -> Callable[..., list[Any]]:
    """As Dynamo calls a graph: with its inputs one by one."""

    def run(*args: Any) -> list[Any]:
        return compiled(list(args))

    return run
