"""Passes as text: `canonicalize,chunk{min_rows=5}`."""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from effcomp.errors import ConfigError, nearest
from effcomp.target import TARGETS, Target

_PLAIN = re.compile(r"[A-Za-z_][\w.:/-]*")
_NAMED: Mapping[str, bool | None] = {"true": True, "false": False, "none": None}


ONLY = "only"
"""The option that every pass has: the modules it is limited to."""


def spec_text(one: Any, only: tuple[str, ...] = ()) -> str:
    """A pass with the options that differ from their defaults, such as `chunk{min_rows=256}`."""
    options = [
        f"{f.name}={value_text(getattr(one, f.name))}"
        for f in fields(one)
        if f.default is MISSING or getattr(one, f.name) != f.default
    ]
    match only:
        case ():
            pass
        case (module,):
            options.append(f"{ONLY}={value_text(module)}")
        case _:
            options.append(f"{ONLY}={value_text(only)}")
    return f"{one.name}{{{','.join(options)}}}" if options else one.name


def value_text(value: Any) -> str:
    """An option's value as a pipeline writes it. Raises ConfigError where text cannot hold it."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case Target():
            return value.name
        case str() if _PLAIN.fullmatch(value) and value not in _NAMED:
            return value
        case str() if '"' not in value:
            return f'"{value}"'
        case tuple():
            return f"[{','.join(map(value_text, typing.cast('tuple[Any, ...]', value)))}]"
        case _:
            raise ConfigError(f"a pass option cannot be written as text: {value!r}")


def parse_passes(
    text: str, registry: Mapping[str, type[Any]], shared: Mapping[str, Any] | None = None
) -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """Read what `spec_text` writes, comma-separated: passes and what each is limited to.

    `shared` are options for every pass that has them and whose text does not set them. Raises
    ConfigError.
    """
    return tuple(_parse_pass(part, registry, shared or {}) for part in _split(text))


def _parse_pass(
    text: str, registry: Mapping[str, type[Any]], shared: Mapping[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    name, brace, rest = text.partition("{")
    name = name.strip()
    if (kind := registry.get(name)) is None:
        raise ConfigError(f"unknown pass {name!r}; {nearest(name, registry)}")
    if brace and not rest.endswith("}"):
        raise ConfigError(f"the options of {name} are not closed: {text!r}")
    known = _option_types(kind, name)
    given: dict[str, Any] = {key: value for key, value in shared.items() if key in known}
    only: tuple[str, ...] = ()
    for part in _split(rest[:-1]):
        key, equals, value = (p.strip() for p in part.partition("="))
        if key not in known and key != ONLY:
            raise ConfigError(f"{name} has no option {key!r}; {nearest(key, (*known, ONLY))}")
        if not equals:
            raise ConfigError(f"option {key!r} of {name} has no value")
        if key == ONLY and key not in known:
            only = _modules(value, name)
        else:
            given[key] = _convert(value, known[key], f"option {key!r} of {name}")
    required = {
        f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING
    }
    if missing := sorted(required - given.keys()):
        raise ConfigError(f"{name} needs option {missing[0]!r}")
    return kind(**given), only


def _option_types(kind: type[Any], name: str) -> dict[str, Any]:
    """What each option's text is read as."""
    own = fields(kind)
    if not own:
        return {}
    try:
        hints = typing.get_type_hints(kind)
    except NameError as error:
        raise ConfigError(
            f"the options of pass {name!r} cannot be read, its annotations name what its module "
            f"does not: {error}"
        ) from None
    return {f.name: hints[f.name] for f in own}


def _modules(text: str, name: str) -> tuple[str, ...]:
    """`"blocks.*"`, or several in brackets."""
    parts = _split(text[1:-1]) if text.startswith("[") and text.endswith("]") else [text]
    found = tuple(part.strip('"') for part in parts)
    if not found or not all(found):
        raise ConfigError(f'{name}: `only` names no module; write only="blocks.*"')
    return found


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts: list[str] = []
    depth, quoted, start = 0, False, 0
    for i, c in enumerate(text):
        quoted ^= c == '"'
        if quoted:
            continue
        depth += (c in "[{") - (c in "]}")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    if depth or quoted:
        raise ConfigError(f"brackets or quotes are not closed: {text!r}")
    return [p for p in (*parts, text[start:].strip()) if p]


def _convert(text: str, hint: Any, what: str) -> Any:
    """Read one option as the type its field declares."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text == "none" and type(None) in args:
            return None
        return _convert(text, next(a for a in args if a is not type(None)), what)
    if origin is tuple:
        if not (text.startswith("[") and text.endswith("]")):
            raise ConfigError(f"{what}: expected a list such as [1,2], found {text!r}")
        return tuple(_convert(p, args[0], what) for p in _split(text[1:-1]))
    if hint is Target:
        if text not in TARGETS:
            raise ConfigError(f"{what}: unknown target {text!r}; {nearest(text, TARGETS)}")
        return TARGETS[text]
    if origin is typing.Literal:
        if text not in args:
            raise ConfigError(f"{what}: {text!r} is not allowed; {nearest(text, map(str, args))}")
        return text
    return _scalar(text, hint, what)


def _scalar(text: str, hint: Any, what: str) -> Any:
    if hint is bool:
        if text not in ("true", "false"):
            raise ConfigError(f"{what}: expected true or false, found {text!r}")
        return text == "true"
    if hint is str:
        return text[1:-1] if text.startswith('"') else text
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            raise ConfigError(f"{what}: expected {hint.__name__}, found {text!r}") from None
    raise ConfigError(f"{what}: cannot be given as text")
