"""Tools for writing passes: rules, the Pass protocol, pipelines."""

from effcomp.rewrite.log import Log, Refusal
from effcomp.rewrite.pass_text import spec_text
from effcomp.rewrite.passes import Pass, Pipeline, Run, Stage, parse_pipeline

__all__ = ["Log", "Pass", "Pipeline", "Refusal", "Run", "Stage", "parse_pipeline", "spec_text"]
