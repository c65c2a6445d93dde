"""A pass that is nothing but its rules."""

from dataclasses import dataclass
from typing import ClassVar

from effcomp.ir import Graph, Level
from effcomp.rewrite.driver import apply_rules
from effcomp.rewrite.log import Log
from effcomp.rewrite.passes import Pass
from effcomp.rewrite.rules import AnyRule


@dataclass(frozen=True)
class RulesPass:
    """Applies its rules until none applies; `bodies` looks into nested graphs too."""

    bodies: bool = False

    name: ClassVar[str] = ""
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR
    rules: ClassVar[tuple[AnyRule, ...]] = ()

    def run(self, graph: Graph, log: Log) -> Graph:
        return apply_rules(graph, self.rules, log, bodies=self.bodies)


def pass_of(name: str, *rules: AnyRule, level: Level = Level.TENSOR) -> type[Pass]:
    """A pass called `name` that applies these rules to a program at `level`, and keeps the level.

    Its docstring is the rules' own `before => after`, one a line.
    """
    if not rules:
        raise ValueError(f"pass {name!r} has no rules")
    doc = "\n".join(f"{(rule.__doc__ or rule.name).strip().splitlines()[0]}" for rule in rules)
    title = "".join(map(str.capitalize, name.split("-")))
    facts = {
        "name": name,
        "rules": rules,
        "takes": level,
        "gives": level,
        "__doc__": doc,
        "__module__": type(rules[0]).__module__,
        "__qualname__": f"{title} of {', '.join(rule.name for rule in rules)}",
    }
    return type(title, (RulesPass,), facts)
