"""Predicted plans: built from fake tensors, priced step by step, marked as predictions."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import plans


def test_a_tiny_plan_is_priced_and_written(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    names = ["--workload", "llama_decode", "--tiny", "--steps", "1", "--out", str(out)]
    (report,) = plans.main(names)
    assert json.loads(out.read_text())["graphs"] == json.loads(json.dumps([report]))
    assert report["prediction"] is True
    assert report["steps"] == len(report["plan"]) == sum(report["steps_by_kind"].values())
    assert 0 <= report["floor_milliseconds"] < report["predicted_milliseconds"]
    assert report["memory_bytes"]["arena"] > 0
    assert {"capture", "passes", "codegen"} <= report["seconds"].keys()
