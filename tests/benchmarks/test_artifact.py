"""The benchmark of artifacts runs from end to end, tiny and on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import artifact
from benchmarks.schema import ArtifactResult


@pytest.mark.slow
def test_a_tiny_run_measures(tmp_path: Path) -> None:
    built, out = tmp_path / "tiny.eff", tmp_path / "tiny-artifact.json"
    artifact.main(["build", "--tiny", "--target", "cpu", "--out", str(built)])
    where = ["--tiny", "--device", "cpu", "--no-aoti", "--artifact", str(built)]
    result = artifact.main(["measure", *where, "--out", str(out)])
    assert result is not None
    assert ArtifactResult.model_validate_json(out.read_text()) == result
    ours, peer = result.packages
    assert ours.status == "ok", ours.why
    assert ours.error is not None
    assert ours.error < 0.05
    assert peer.status == "skipped"
    assert result.loading is not None
    assert result.loading.effcomp > 0
    assert result.lora is not None
    assert result.lora.restored
    assert result.lora.difference == 0
