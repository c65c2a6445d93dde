"""`trace`: explain tells how near a rule came; a name that no rule has is an error."""

from __future__ import annotations

import pytest
import torch

import effcomp as ec


class Scores(torch.nn.Module):
    """Attention but for the dim of its softmax."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(-1, -2) * 0.5, dim=1) @ v


QKV = [torch.randn(1, 2, 4, 8) for _ in range(3)]


def test_explain_tells_the_nearest_miss_and_where_rules_matched() -> None:
    with torch.no_grad():
        report = ec.explain(Scores(), *QKV, options={"trace": ["join-attention", "SinkReshape"]})
    (graph,) = report.graphs
    found = [miss.text for miss in graph.misses]
    assert any(text.startswith("SinkReshape matched 1 of 2 ops") for text in found), found
    assert any("2 of 2 ops" in text and "see the refusals" in text for text in found), found
    assert "  nearest misses:\n" in str(report)
    assert ec.explain(Scores(), *QKV).graphs[0].misses == ()


def test_matches_say_where() -> None:
    with torch.no_grad():
        report = ec.explain(lambda x: torch.nn.functional.silu(x * 1 + 2), QKV[0])
    (graph,) = report.graphs
    assert sum(match.count for match in graph.places) == sum(graph.matches.values())
    shown = str(report).partition("  matches:\n")[2].partition("\n  refusals")[0]
    assert all(match.rule in shown for match in graph.places)
    assert "test_trace.py:" in shown


def test_a_name_that_no_rule_has() -> None:
    with (
        torch.no_grad(),
        pytest.raises(
            Exception, match=r"no pass here has a rule 'SinkReshap' to trace; did you mean"
        ),
    ):
        ec.explain(Scores(), *QKV, options={"trace": ["SinkReshap"]})
