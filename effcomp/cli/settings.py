"""`NAME=VALUE` options, and the Config that a command's options amount to."""

import types
import typing
from collections.abc import Sequence
from typing import Any

from effcomp.config import Config
from effcomp.errors import ConfigError

__all__ = ["config_of", "parse_sizes"]


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Read `batch=2` options. Raises ConfigError."""
    found: dict[str, int] = {}
    for name, value in map(_pair, texts):
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(f"--size {name}={value}: a size is a positive number")
        found[name] = int(value)
    return found


def config_of(texts: Sequence[str], pipeline: str | None) -> Config:
    """The Config of `--option NAME=VALUE` and `--pipeline`. Raises ConfigError."""
    given: dict[str, Any] = {name: _read(name, value) for name, value in map(_pair, texts)}
    if pipeline is not None:
        if "pipeline" in given:
            raise ConfigError("give --pipeline or --option pipeline=..., not both")
        given["pipeline"] = pipeline
    return Config.from_user(None, given)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def _read(name: str, value: str) -> Any:
    """A value as Config takes it: lists are comma-separated, none is none, the rest is text."""
    field = Config.model_fields.get(name)
    hint: Any = field.annotation if field else str
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return None if optional and value == "none" else value
