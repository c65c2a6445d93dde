"""What of the registered things shapes a plan, as text for the compile cache's key."""

import functools
import hashlib
import inspect
import marshal
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from effcomp.plugins.registry import REGISTRY, CustomOp, Origin, PluginPass


def registered_text() -> str:
    """Names, versions and source digests of all that is registered; empty where nothing is.

    Of an installed plugin its whole package counts, of things defined in this process the file
    they stand in. Options are fields of passes and rules: data that a rule only closes over is not
    seen here. Passes come in the order of their registration, which decides where they stand.
    """
    passes = [_line("pass", p.name, p.origin, _parts_of_pass(p)) for p in REGISTRY.passes.values()]
    ops = [_line("op", o.spec.name, o.origin, _parts_of_op(o)) for o in REGISTRY.ops.values()]
    return "\n".join((*passes, *sorted(ops)))


def _line(what: str, name: str, origin: Origin, parts: list[Any]) -> str:
    digests = sorted({source_digest(part, origin) for part in parts})
    return f"{what} {name} {origin.name} {origin.version} {' '.join(digests)}"


def _parts_of_pass(entry: PluginPass) -> list[Any]:
    rules = getattr(entry.kind, "rules", ())
    options = repr(_defaults(entry.kind))
    return [entry.kind, *(type(rule) for rule in rules), *map(repr, rules), repr(entry), options]


def _defaults(kind: type[Any]) -> list[Any]:
    """What a pass runs with: not all of it has to stand in its source, such as a measured limit."""
    if not is_dataclass(kind):
        return []
    factories = [f.default_factory for f in fields(kind)]
    made = [factory() for factory in factories if factory is not MISSING]
    return [*(f.default for f in fields(kind) if f.default is not MISSING), *made]


def _parts_of_op(entry: CustomOp) -> list[Any]:
    functions = (entry.spec.infer, entry.reference, *entry.emitters.values())
    return [*(f for f in functions if f is not None), entry.expression, repr(entry.torch_ops)]


def source_digest(thing: Any, origin: Origin) -> str:
    """A digest of the source that a class or function comes from; of a text, its own."""
    if isinstance(thing, str):
        return hashlib.sha256(thing.encode()).hexdigest()[:16]
    module = sys.modules.get(str(thing.__module__))
    file = getattr(module, "__file__", None)
    if file is None:
        return hashlib.sha256(_source_text(thing).encode()).hexdigest()[:16]
    package = str(thing.__module__).partition(".")[0]
    whole = getattr(sys.modules.get(package), "__path__", None) if origin.installed else None
    return _digest_of(tuple(str(path) for path in whole) if whole else (file,), REGISTRY.version)


@functools.lru_cache(maxsize=256)
def _digest_of(paths: tuple[str, ...], version: int) -> str:
    """Files, or all sources below folders, as they are at this version of the registry."""
    del version
    digest = hashlib.sha256()
    for path in _sources(paths):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources(paths: tuple[str, ...]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        elif path.is_file():
            yield path


def _source_text(thing: Any) -> str:
    """The text of something typed in; what it compiled to where the text is gone."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        inside = cast("dict[str, Any]", vars(thing))
        members: list[Any] = [thing, *inside.values()]
        codes = (getattr(member, "__code__", None) for member in members)
        return "".join(marshal.dumps(code).hex() for code in codes if code is not None)
