"""Tools for writing passes: patterns, rules, the Pass protocol, pipelines."""

from effcomp.rewrite.driver import apply_rules
from effcomp.rewrite.log import Log, Refusal
from effcomp.rewrite.matching import Match, Number, constant_of
from effcomp.rewrite.pass_text import spec_text
from effcomp.rewrite.passes import Pass, Pipeline, Run, Stage, parse_pipeline
from effcomp.rewrite.pattern import (
    Pat,
    attr_var,
    const,
    either,
    maybe,
    maybe_var,
    pat,
    rest,
    var,
)
from effcomp.rewrite.program import Node, Program
from effcomp.rewrite.rules import AnyRule, Builder, Refused, Rule

__all__ = [
    "AnyRule", "Builder", "Log", "Match", "Node", "Number", "Pass", "Pat", "Pipeline", "Program",
    "Refusal", "Refused", "Rule", "Run", "Stage", "apply_rules", "attr_var", "const", "constant_of",
    "either", "maybe", "maybe_var", "parse_pipeline", "pat", "rest", "spec_text", "var",
]  # fmt: skip
