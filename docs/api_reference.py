"""The page docs/reference/api.md: every public name, from its signature and docstring."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import effcomp
import effcomp.testing

SECTIONS = {
    "Compile, run, look": (
        "backend", "Config", "compile", "CompiledModel", "load", "explain", "reset", "EffcompError",
    ),
    "Rules and patterns": (
        "Rule", "Refused", "Match", "Builder", "Pattern", "pat", "var", "maybe_var", "const",
        "attr_var", "rest", "maybe", "either", "outputs", "apply_rules",
    ),
    "Passes and pipelines": ("Pass", "pass_of", "Log", "Pipeline", "parse_pipeline", "register",
                             "unregister"),
    "Programs": ("Graph", "Op", "Value", "TensorType", "Level", "attr", "ceil_div", "ops",
                 "parse_graph", "print_graph"),
    "Ops of one's own": ("op", "OpSpec", "Trait", "require", "launch"),
}  # fmt: skip


def api_page(notice: str) -> str:
    """All public names in sections; a name without a section is an error."""
    lines = ["# API", "", notice, ""]
    lines += ["What `import effcomp as ec` gives, and `effcomp.testing`. These names are stable:"]
    lines += ["one is taken away or changed only with a release that said so before. Everything"]
    lines += ["else may change. [Write a pass of your own](../how-to/write-a-pass.md) uses them."]
    placed = {name for names in SECTIONS.values() for name in names}
    if missing := set(effcomp.__all__) ^ placed:
        raise SystemExit(f"docs/api_reference.py: no section (or no name): {sorted(missing)}")
    for title, names in SECTIONS.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += _entry(name, getattr(effcomp, name))
    lines += ["", "## effcomp.testing"]
    for name in sorted(effcomp.testing.__all__, key=str.lower):
        lines += _entry(name, getattr(effcomp.testing, name))
    return "\n".join(lines) + "\n"


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield from ("", f"### `{name}{_parameters(thing)}`", "")
    doc = _doc(thing)
    if doc:
        yield from ("```text", doc, "```")
    if isinstance(thing, enum.EnumMeta):
        yield from ("", f"Members: {', '.join(f'`{member.name}`' for member in thing)}.")
    elif isinstance(thing, type):
        members = list(_members(thing))
        if members:
            yield from ("", "| | |", "| --- | --- |", *members)


def _doc(thing: Any) -> str:
    match thing:
        case ModuleType():
            return inspect.getdoc(thing) or ""
        case dict():
            return "\n".join(f"{key}: {value:g}" for key, value in thing.items())
        case type() if dataclasses.is_dataclass(thing) and thing.__doc__ == _made_up(thing):
            return ""
        case type() | _ if callable(thing):
            return inspect.getdoc(thing) or ""
        case _:
            return " | ".join(getattr(kind, "__name__", str(kind)) for kind in thing.__args__)


def _made_up(kind: type) -> str:
    return f"{kind.__name__}{inspect.signature(kind)}"


def _parameters(thing: Any) -> str:
    """Names and defaults; types are in the source."""
    if isinstance(thing, enum.EnumMeta | ModuleType | dict) or not callable(thing):
        return ""
    if isinstance(thing, type) and (
        inspect.isabstract(thing) or getattr(thing, "_is_protocol", False) or not _is_made(thing)
    ):
        return ""
    signature = inspect.signature(thing)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    shown = [p for p in bare if not p.name.startswith("_")]
    plain = [
        p.replace(default=_Default(p.default)) if p.default is not p.empty else p for p in shown
    ]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _is_made(kind: type) -> bool:
    """Whether a user makes objects of this class."""
    return dataclasses.is_dataclass(kind) and kind.__name__ not in (
        "Match",
        "OpSpec",
        "Op",
        "Builder",
    )


class _Default:
    """A default value as a reader writes it; one that has no short form is an ellipsis."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        text = repr(self.value)
        if isinstance(self.value, enum.Enum):
            return f"{type(self.value).__name__}.{self.value.name}"
        return "..." if text.startswith("<") or len(text) > 30 else text


def _members(kind: type) -> Iterator[str]:
    """Public methods and properties with the first lines of their docstrings."""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        first = (inspect.getdoc(function) or "").partition("\n")[0].replace("|", "\\|")
        if isinstance(member, property):
            yield f"| `.{name}` | {first} |"
        elif inspect.isfunction(function):
            own = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
            yield f"| `.{name}({', '.join(own)})` | {first} |"
