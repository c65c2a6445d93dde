"""Triton's interpreter for plans of a GPU on a CPU: slow, and exact in float32.

Triton decides when `triton.language` is imported whether its own device functions (`tl.sum`) are
for the interpreter. Here they run there anyway: inside a launch a call of a compiled-mode device
function is a call of its rewritten Python source. So one process can interpret and compile.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction

from effcomp.errors import KernelError
from effcomp.plan.schema import TritonKernel
from effcomp.runtime.bound import Action
from effcomp.runtime.calls import Slots

__all__ = ["InterpretedKernel"]

# The interpreter patches `triton.language` while it runs.
_LOCK = threading.RLock()


class InterpretedKernel:
    """A kernel that Triton's interpreter runs on CPU tensors. Raises KernelError for bf16."""

    def __init__(self, kernel: TritonKernel, function: Any, source: str) -> None:
        if refused := [p.name for p in kernel.params if "bf16" in p.type]:
            raise KernelError(
                f"kernel {kernel.function} takes bfloat16 ({', '.join(refused)}): Triton's "
                "interpreter computes it wrongly without saying so; "
                "use float32 or float16, or a GPU"
            )
        self.kernel, self.source = kernel, source
        self.function = interpreter.InterpretedFunction(function.fn)

    def bind(
        self, args: Sequence[Any], late: Sequence[tuple[int, int]], grid: tuple[int, int, int]
    ) -> Action:
        """A launch with these arguments."""
        names = [p.name for p in self.kernel.params if p.type != "constexpr"]
        constants = dict(self.kernel.constants)

        def launch(slots: Slots) -> None:
            values = list(args)
            for position, id in late:
                values[position] = slots[id]
            given = dict(zip(names, map(_detached, values), strict=True))
            self._launch(grid, {**given, **constants})

        return launch

    def _launch(self, grid: tuple[int, int, int], arguments: dict[str, Any]) -> None:
        with _LOCK, _device_functions():
            try:
                self.function.run(grid=grid, warmup=False, **arguments)
            except interpreter.InterpreterError as error:
                raise KernelError(
                    f"kernel {self.kernel.function} ({self.source}) failed in Triton's "
                    f"interpreter: {error}"
                ) from error


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


class _Scope:
    """Names of a module, looked at as the globals of a function: what the interpreter patches."""

    __globals__: ClassVar = {"tl": tl, "core": tl.core}


@contextlib.contextmanager
def _device_functions() -> Iterator[None]:
    """Let device functions defined for the compiler be called from interpreted kernels."""
    compiled = JITFunction.__call__
    interpreted = interpreter.InterpretedFunction.__call__
    patched = interpreter._patch_lang(_Scope)
    JITFunction.__call__ = _call_device_function
    interpreter.InterpretedFunction.__call__ = _call_device_function
    try:
        yield
    finally:
        JITFunction.__call__ = compiled
        interpreter.InterpretedFunction.__call__ = interpreted
        patched.restore()


def _call_device_function(self: Any, *args: Any, **kwargs: Any) -> Any:
    kwargs.pop("_semantic", None)
    return _rewritten(self.fn)(*args, **kwargs)


def _rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    return interpreter.InterpretedFunction(function).rewrite()
