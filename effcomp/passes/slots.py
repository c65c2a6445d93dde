"""Where passes of plugins stand among the compiler's own."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from effcomp.errors import PluginError
from effcomp.passes.registry import known_passes
from effcomp.plugins import REGISTRY, PluginPass
from effcomp.rewrite import Pass
from effcomp.target import Target


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the pipeline. One that does not run for a target is still a place to stand by."""

    one: Pass
    runs: bool = True


def with_plugins(own: Sequence[Slot], target: Target, training: bool) -> list[Slot]:
    """The slots with those of plugins put in, in the order in which they were registered.

    One that stands by a pass of another plugin waits for it. Raises PluginError for a neighbour
    that nobody knows, and for passes that wait for each other.
    """
    known = known_passes()
    slots = list(own)
    waiting = [entry for entry in REGISTRY.passes.values() if entry.before or entry.after]
    for entry in waiting:
        if not any(name in known for name in (*entry.before, *entry.after)):
            raise PluginError(
                f"pass {entry.name!r} of {entry.origin} stands {entry.place}, and there is no such "
                f"pass; there are: {', '.join(sorted(known))}"
            )
    while waiting:
        placed = [entry for entry in waiting if _position(slots, entry) is not None]
        if not placed:
            raise PluginError(f"passes wait for each other: {', '.join(e.name for e in waiting)}")
        for entry in placed:
            position = _position(slots, entry)
            assert position is not None, "slots are only added"
            runs = (training is False or entry.training) and (
                not entry.targets or target.kind in entry.targets
            )
            slots.insert(position, Slot(_made(entry.kind, target), runs))
            waiting.remove(entry)
    return slots


def _position(slots: Sequence[Slot], entry: PluginPass) -> int | None:
    """Where a pass goes: by the first of its neighbours that is there."""
    names = [slot.one.name for slot in slots]
    for name in (*entry.before, *entry.after):
        if name in names:
            first = names.index(name)
            return first if entry.before else _behind(slots, first, entry)
    return None


def _behind(slots: Sequence[Slot], first: int, entry: PluginPass) -> int:
    """Behind the neighbour, and behind the plugins' passes that asked for the same before."""
    at = first + 1
    while at < len(slots) and (other := REGISTRY.passes.get(slots[at].one.name)) is not None:
        if other.after != entry.after:
            break
        at += 1
    return at


def _made(kind: type[Pass], target: Target) -> Pass:
    """The pass with its defaults; one that has a field `target` is told it."""
    made: Any = kind
    takes_target = is_dataclass(kind) and any(field.name == "target" for field in fields(kind))
    return made(target=target) if takes_target else made()
