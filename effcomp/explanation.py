"""`effcomp.explain`: what the compiler did to a model, as a report one can read."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from effcomp.api import Compilation, backend, recording
from effcomp.errors import FallbackWarning
from effcomp.plan.cubin import Cubin
from effcomp.report.schema import Report
from effcomp.reporting import report_of, source_lines, versions
from effcomp.runtime.cuda_launch import capability_of
from effcomp.runtime.kernels import build_cubins
from effcomp.runtime.program import analyze

__all__ = ["explain", "explain_call", "report_of"]


def explain(
    model: Callable[..., Any],
    *args: Any,
    options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Report:
    """Compile `model` anew for these arguments, run it, and report what was done.

    `options` are those of torch.compile; {"trace": ["FuseSilu"]} tells how near a rule came that
    did not apply. All else goes to the model.

    The model runs twice, once to find its graph breaks: state that it keeps advances twice.
    Nothing of the compile cache is read, so that every stage is there to be reported. Gradients are
    followed if they are enabled: the backward graph is then reported once it was compiled.
    """
    return explain_call(model, args, kwargs, options)


def explain_call(
    model: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Report:
    """As `explain`, compiling with these options of the backend."""
    torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
    with recording() as found:
        with torch._dynamo.utils.preserve_rng_state():  # pyright: ignore[reportPrivateImportUsage]
            breaks = _breaks(model, args, kwargs)
        torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]
        found.clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", FallbackWarning)
            torch.compile(model, backend=backend, options=dict(options or {}))(*args, **kwargs)
    fallbacks: list[str] = []
    for warning in seen:
        if issubclass(warning.category, FallbackWarning):
            fallbacks.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    graphs = tuple(report_of(record, cubins=_cubins(record)) for record in found)
    return Report(
        graphs=graphs,
        breaks=breaks,
        fallbacks=tuple(fallbacks),
        title=_title(model),
        versions=versions(),
        sources=source_lines(graphs, model),
    )


def _cubins(record: Compilation) -> tuple[Cubin, ...]:
    """The kernels as they ran on a GPU: Triton's cache has them."""
    executable = record.executable
    if executable is None or executable.device.type != "cuda":
        return ()
    return build_cubins(analyze(record.plan), capability_of(executable.device))


def _title(model: Callable[..., Any]) -> str:
    """The class of a module, the name of a function."""
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", type(model).__name__)


def _breaks(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    output = torch._dynamo.explain(model)(*args, **kwargs)  # pyright: ignore[reportPrivateImportUsage]
    return tuple(
        f"{reason.reason.splitlines()[0]} at {_place(reason.user_stack)}"
        for reason in output.break_reasons
    )


def _place(stack: Any) -> str:
    return (
        f"{stack[-1].filename.rsplit('/', 1)[-1]}:{stack[-1].lineno}"
        if stack
        else "an unknown line"
    )
