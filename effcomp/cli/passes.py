"""`effcomp passes`: what a pipeline may hold."""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import OneTarget, Plugins

if TYPE_CHECKING:
    from effcomp.rewrite import Pass

__all__ = ["passes"]


def passes(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="PASS", help="Show these passes in full.")
    ] = None,
    target: OneTarget = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """List the passes, describe some, or show the pipeline of a target.

    With --target, only the passes that this target's own pipeline runs, in its order; what is
    printed after 'pipeline:' can be given to --pipeline.
    """
    from effcomp.cli.console import out, print_json, table
    from effcomp.cli.user_code import load_named_plugins
    from effcomp.errors import ConfigError, nearest
    from effcomp.passes import known_passes

    load_named_plugins(plugin)
    known = known_passes()
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no pass {name!r}; {nearest(name, known)}")
    order, text = sorted(known), ""
    if target is not None:
        order, text = _pipeline(target)
    chosen = [known[name] for name in order if not names or name in names]
    if json:
        listed = [_described(one) for one in chosen]
        print_json({"target": target, "pipeline": text, "passes": listed} if target else listed)
        return
    if names:
        for one in chosen:
            _show(one)
        return
    rows = [(one.name, _levels(one), _summary(one)) for one in chosen]
    out().print(table(("pass", "level", "what it does"), rows))
    for one in chosen:
        if found := _plugin(one.name):
            out().print(f"{one.name} is from {found['from']} and runs {found['runs']}")
    if target is not None:
        out().print(f"\npipeline: {text}", soft_wrap=True)


def _pipeline(target: str) -> tuple[list[str], str]:
    from effcomp.config import Config
    from effcomp.passes.pipelines import pipeline_for
    from effcomp.target import TARGETS

    rows = Config.from_user(None, None).horizontal_rows
    made = pipeline_for(TARGETS[target], training=False, horizontal_rows=rows)
    return [one.name for one in made.passes], made.text


def _summary(one: "type[Pass]") -> str:
    return (inspect.getdoc(one) or "").partition("\n")[0]


def _levels(one: "type[Pass]") -> str:
    takes, gives = (level.value if level else "any" for level in (one.takes, one.gives))
    return takes if takes == gives else f"{takes} to {gives}"


def _options(one: "type[Pass]") -> dict[str, str]:
    """Each option and its default, as a pipeline would write it."""
    from effcomp.rewrite.pass_text import value_text

    fields: tuple[Any, ...] = dataclasses.fields(one)  # pyright: ignore[reportArgumentType]
    return {
        f.name: "required" if f.default is dataclasses.MISSING else value_text(f.default)
        for f in fields
    }


def _described(one: "type[Pass]") -> dict[str, Any]:
    return {
        "name": one.name,
        "takes": one.takes.value if one.takes else None,
        "gives": one.gives.value if one.gives else None,
        "options": _options(one),
        "doc": inspect.getdoc(one) or "",
        **_plugin(one.name),
    }


def _plugin(name: str) -> dict[str, Any]:
    """Who registered a pass, and where it runs; nothing of the compiler's own."""
    from effcomp.plugins import REGISTRY

    entry = REGISTRY.passes.get(name)
    return {"from": str(entry.origin), "runs": entry.place} if entry else {}


def _show(one: "type[Pass]") -> None:
    from effcomp.cli.console import out

    out().print(one.name, style="bold")
    out().print(f"  level: {_levels(one)}")
    for key, value in _plugin(one.name).items():
        out().print(f"  {key}: {value}")
    for name, default in _options(one).items():
        out().print(f"  option {name} = {default}")
    doc = inspect.getdoc(one) or ""
    out().print("".join(f"  {line}\n" if line else "\n" for line in doc.splitlines()))
