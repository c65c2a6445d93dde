"""Tools for writing passes: patterns, rules, the Pass protocol, pipelines."""

from effcomp.rewrite.driver import apply_rules
from effcomp.rewrite.log import Applied, Log, NearMiss, Refusal
from effcomp.rewrite.matching import Match, Number, constant_of
from effcomp.rewrite.pass_text import spec_text
from effcomp.rewrite.passes import Pass, Pipeline, Run, Scoped, Stage, parse_pipeline
from effcomp.rewrite.pattern import (
    Outputs,
    Pat,
    Pattern,
    attr_var,
    const,
    either,
    maybe,
    maybe_var,
    outputs,
    pat,
    rest,
    var,
)
from effcomp.rewrite.program import Node, Program
from effcomp.rewrite.rules import AnyRule, Builder, Refused, Rule
from effcomp.rewrite.rules_pass import pass_of
from effcomp.rewrite.scope import Scope

__all__ = [
    "AnyRule", "Applied", "Builder", "Log", "Match", "NearMiss", "Node", "Number", "Outputs",
    "Pass", "Pat", "Pattern", "Pipeline", "Program", "Refusal", "Refused", "Rule", "Run", "Scope",
    "Scoped", "Stage", "apply_rules", "attr_var", "const", "constant_of", "either", "maybe",
    "maybe_var", "outputs", "parse_pipeline", "pass_of", "pat", "rest", "spec_text", "var",
]  # fmt: skip
