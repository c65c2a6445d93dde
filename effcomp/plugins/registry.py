"""Which passes and ops were registered, by whom, and where passes go.

Every first call asks this, most find nothing: what ops are is imported where there is one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from effcomp.errors import PluginError

if TYPE_CHECKING:
    from effcomp.ir import OpSpec
    from effcomp.rewrite import Pass


@dataclass(frozen=True, slots=True)
class Origin:
    """Who registered something: an installed distribution, or a module of this process."""

    name: str
    version: str = ""

    @property
    def installed(self) -> bool:
        return bool(self.version)

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else f"module {self.name!r}"


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
COMPILER = Origin("effcomp", "itself")


@dataclass(frozen=True, slots=True)
class PluginPass:
    """A registered pass and its place in the default pipelines.

    It stands before (or after) the first pass of the given names that the pipeline knows; without
    either it runs where a textual pipeline names it. `targets` are kinds of device; empty is any.
    """

    kind: type[Pass]
    origin: Origin
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    training: bool = True

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def place(self) -> str:
        """Where it runs, in words."""
        anchors = [f"before {name}" for name in self.before] or [f"after {n}" for n in self.after]
        return " or ".join(anchors) or "only where a pipeline names it"


@dataclass(frozen=True, slots=True)
class CustomOp:
    """What the compiler knows of a registered op besides its declaration.

    `reference` is a function on torch tensors; `emitters` make a launch of the op, by kind of
    target; `expression` is how an elementwise op reads in Triton, its operands and attributes in
    braces; `torch_ops` are operators such as "mylib::scale" that capture maps to it.
    """

    spec: OpSpec
    origin: Origin
    reference: Callable[..., Any] | None = None
    emitters: Mapping[str, Callable[..., Any]] = field(
        default_factory=lambda: MappingProxyType(dict[str, Callable[..., Any]]())
    )
    expression: str = ""
    torch_ops: tuple[str, ...] = ()


@dataclass(slots=True)
class Registry:
    """The tables. `version` changes with every registration: caches hang on it."""

    passes: dict[str, PluginPass] = field(default_factory=dict[str, PluginPass])
    ops: dict[str, CustomOp] = field(default_factory=dict[str, CustomOp])
    torch_ops: dict[str, str] = field(default_factory=dict[str, str])
    version: int = 0

    def add_pass(self, entry: PluginPass) -> None:
        self._claim("pass", entry.name, self.passes.get(entry.name), entry.origin, entry.kind)
        self.passes[entry.name] = entry
        self.version += 1

    def add_op(self, entry: CustomOp) -> None:
        name = entry.spec.name
        held = self.ops.get(name)
        self._claim("op", name, held, entry.origin, entry.spec.infer)
        for operator in entry.torch_ops:
            owner = self.torch_ops.get(operator, name)
            if owner != name:
                raise PluginError(
                    f"torch operator {operator!r} is claimed by op {owner!r} of "
                    f"{self.ops[owner].origin} and by op {name!r} of {entry.origin}"
                )
        for operator in held.torch_ops if held is not None else ():
            self.torch_ops.pop(operator, None)
        self.ops[name] = entry
        self.torch_ops.update(dict.fromkeys(entry.torch_ops, name))
        self.version += 1

    def _claim(
        self, what: str, name: str, held: PluginPass | CustomOp | None, origin: Origin, thing: Any
    ) -> None:
        """Raise PluginError where the name is taken, but by an earlier state of the same code."""
        if held is None or _is_redefined(held, origin, thing):
            return
        raise PluginError(
            f"{what} {name!r} is registered by {held.origin} and by {origin}; "
            f"rename one, or uninstall it{_unregister_hint(held.origin, name)}"
        )


def _unregister_hint(origin: Origin, name: str) -> str:
    return "" if origin.installed else f" (effcomp.unregister({name!r}) frees the name)"


def _is_redefined(held: PluginPass | CustomOp, origin: Origin, thing: Any) -> bool:
    """Whether it is the same thing, or that of a cell or module which was run again."""
    before = held.kind if isinstance(held, PluginPass) else held.spec.infer
    if before is thing:
        return True
    same_place = (before.__module__, before.__qualname__) == (thing.__module__, thing.__qualname__)
    return same_place and held.origin == origin and not origin.installed


REGISTRY = Registry()
"""The tables of this process."""

_REGISTERING: ContextVar[Origin | None] = ContextVar("effcomp_registering", default=None)


@contextlib.contextmanager
def registering_as(origin: Origin) -> Generator[None]:
    """Whatever is registered inside belongs to `origin`."""
    token = _REGISTERING.set(origin)
    try:
        yield
    finally:
        _REGISTERING.reset(token)


def origin_of(thing: Any) -> Origin:
    """The distribution that is being loaded, else the package that `thing` was written in."""
    return _REGISTERING.get() or Origin(str(thing.__module__).partition(".")[0])


def register(
    *kinds: type[Pass],
    before: str | tuple[str, ...] = (),
    after: str | tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    training: bool = True,
) -> None:
    """Make passes known by their names, and give them a place in the default pipelines.

    `before="fuse-rowwise"` or `after="canonicalize"` names the neighbour; of several names the
    first that is known counts, and of a pass that runs twice the first run. Without either the
    passes run only where `options={"pipeline": ...}` names them. `targets=("cuda",)` leaves out
    other devices; `training=False` leaves out graphs whose weights change between calls. Raises
    PluginError for a name that is taken.
    """
    if before and after:
        raise PluginError("a pass stands before another or after it: give one of the two")
    for kind in kinds:
        if not isinstance(getattr(kind, "name", None), str) or not hasattr(kind, "run"):
            raise PluginError(f"{kind!r} is no pass: it needs `name`, `takes`, `gives` and `run`")
        if not _NAME.fullmatch(kind.name):
            raise PluginError(
                f"a pass cannot be called {kind.name!r}: pipelines write names as 'fuse-scale'"
            )
        REGISTRY.add_pass(
            PluginPass(kind, origin_of(kind), _names(before), _names(after), targets, training)
        )


def _names(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def unregister(name: str) -> None:
    """Forget a pass or an op that was registered. Raises PluginError where there is none."""
    if name not in REGISTRY.passes and name not in REGISTRY.ops:
        raise PluginError(f"nothing called {name!r} is registered")
    REGISTRY.passes.pop(name, None)
    if (held := REGISTRY.ops.pop(name, None)) is not None:
        from effcomp.ir import SPECS

        del SPECS[name]
        for operator in held.torch_ops:
            REGISTRY.torch_ops.pop(operator, None)
    REGISTRY.version += 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was registered at one time."""

    passes: Mapping[str, PluginPass]
    ops: Mapping[str, CustomOp]
    torch_ops: Mapping[str, str]
    specs: Mapping[str, OpSpec]


def snapshot() -> Snapshot:
    from effcomp.ir import SPECS

    return Snapshot(
        dict(REGISTRY.passes), dict(REGISTRY.ops), dict(REGISTRY.torch_ops), dict(SPECS)
    )


def restore(kept: Snapshot) -> None:
    """Let exactly that be registered which was then."""
    from effcomp.ir import SPECS

    REGISTRY.passes, REGISTRY.ops = dict(kept.passes), dict(kept.ops)
    REGISTRY.torch_ops = dict(kept.torch_ops)
    REGISTRY.version += 1
    SPECS.clear()
    SPECS.update(kept.specs)


@contextlib.contextmanager
def isolated() -> Generator[Registry]:
    """Forget afterwards what is registered inside: for tests."""
    kept = snapshot()
    try:
        yield REGISTRY
    finally:
        restore(kept)
