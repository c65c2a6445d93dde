"""How every command is declared: its failures become one message and one exit code."""

import functools
import inspect
import json as json_module
import traceback as traceback_module
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from effcomp.cli.exits import ExitCode, exit_code_of
from effcomp.errors import CacheWarning, EffcompError, FallbackWarning, PluginWarning

__all__ = ["Json", "command"]

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document to stdout.", rich_help_panel="Output"),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback",
        help="Show where in the code an error came from.",
        rich_help_panel="Output",
    ),
]


def command(run: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command's function: errors are rendered, and it takes `--traceback` as well."""

    @functools.wraps(run)
    def guarded(*args: Any, traceback: bool, **kwargs: Any) -> None:
        try:
            with _shown_warnings():
                run(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - all end as an exit code
            told = _told(error)
            _render(told, traceback, bool(kwargs.get("json")))
            raise typer.Exit(exit_code_of(told)) from None

    hints = typing.get_type_hints(run, include_extras=True)
    signature = inspect.signature(run)
    parameters = [
        p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()
    ]
    extra = inspect.Parameter(
        "traceback", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Traceback
    )
    guarded.__signature__ = signature.replace(parameters=[*parameters, extra])  # pyright: ignore[reportAttributeAccessIssue]
    guarded.__annotations__ = {**hints, "traceback": Traceback}
    return guarded


def _told(error: BaseException) -> BaseException:
    """effcomp's own error, where torch.compile has wrapped one that its backend raised."""
    inner = getattr(error, "inner_exception", None)
    return inner if isinstance(inner, EffcompError) else error


def _render(error: BaseException, traceback: bool, as_json: bool) -> None:
    from effcomp.cli.console import note

    code = exit_code_of(error)
    message = _message(error, code)
    if traceback:
        note("".join(traceback_module.format_exception(error)).rstrip())
    note(message, "" if code is ExitCode.INTERRUPTED else "error")
    if as_json:
        kind = type(error).__name__
        print(json_module.dumps({"error": {"kind": kind, "message": message, "exit": int(code)}}))


def _message(error: BaseException, code: ExitCode) -> str:
    notes = [str(n) for n in getattr(error, "__notes__", ())]
    match error:
        case KeyboardInterrupt():
            return "interrupted"
        case EffcompError():
            text = str(error)
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            text = f"{name!s}: {reason[:1].lower()}{reason[1:]}"
        case OSError():
            text = str(error)
        case _ if code is ExitCode.INTERNAL:
            text = (
                f"{type(error).__name__}: {error}\n"
                "this is a mistake in effcomp or a library below it; --traceback shows where"
            )
        case _:
            text = str(error)
    return "\n".join([text, *notes])


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Warnings of effcomp's as messages, and none for the authors of other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        default = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            from effcomp.cli.console import note

            if issubclass(category, (CacheWarning, FallbackWarning, PluginWarning)):
                note(str(message), "warning")
            else:
                default(message, category, *where, **more)

        warnings.showwarning = show
        yield
