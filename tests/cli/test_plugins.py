"""Passes and ops of others, on the command line: listed, run, traced, compiled with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from effcomp.plugins import isolated
from tests.cli.calling import call, succeed

PLUGIN = '''\
"""A rule for the commands to find."""

from dataclasses import dataclass

import effcomp as ec


@dataclass(frozen=True)
class FoldTwice(ec.Rule[None]):
    """neg(neg(x)) => x."""

    def pattern(self) -> ec.Pattern:
        neg = ec.ops.elementwise.neg
        return ec.pat(neg, ec.pat(neg, ec.var("x")))

    def check(self, m: ec.Match) -> ec.Refused | None:
        return ec.Refused("x is small") if len(m["x"].shape) < 2 else None

    def rewrite(self, m: ec.Match, b: ec.Builder, facts: None) -> ec.Value:
        return m["x"]


ec.register(ec.pass_of("fold-twice", FoldTwice()), after="cse")
'''
GRAPH = """\
graph @f(%x: f32[SHAPE]) {
  %0 = tensor.neg(%x) : f32[SHAPE]
  %1 = OP(%0) : f32[SHAPE]
  return %1
}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "folding.py"
    path.write_text(PLUGIN)
    with isolated():
        yield path
    sys.modules.pop("folding", None)
    sys.path.remove(str(tmp_path))


def graph(op: str = "tensor.neg", shape: str = "4, 4") -> str:
    return GRAPH.replace("OP", op).replace("SHAPE", shape)


def test_a_plugins_pass_is_listed_and_placed(plugin: Path) -> None:
    shown = succeed("passes", "fold-twice", "--plugin", plugin).out
    assert "module 'folding'" in shown
    assert "after cse" in shown
    assert (
        "cse,fold-twice,"
        in succeed("passes", "-t", "cpu", "--plugin", plugin, "--json").data["pipeline"]
    )


def test_a_plugins_pass_runs(plugin: Path) -> None:
    args = ("opt", "-", "--plugin", plugin, "-p", "fold-twice")
    assert "return %x" in succeed(*args, stdin=graph()).out


def test_refusals_and_near_misses_are_told(plugin: Path) -> None:
    args = ("opt", "-", "--plugin", plugin, "-p", "fold-twice")
    refused = succeed(*args, "--refusals", stdin=graph(shape="4"))
    assert "FoldTwice refused: x is small" in refused.err
    missed = succeed(*args, "--trace", "FoldTwice", "--json", stdin=graph(op="tensor.exp"))
    assert missed.data["stages"][0]["misses"]
    assert "FoldTwice matched" in missed.err
    unknown = call(*args, "--trace", "FoldTwic", stdin=graph())
    assert unknown.code == 2
    assert "did you mean 'FoldTwice'?" in unknown.err


def test_a_plugin_that_is_not_there_says_so() -> None:
    missing = call("passes", "--plugin", "no_such_plugin")
    assert missing.code == 3
    assert "cannot import no_such_plugin" in missing.err
