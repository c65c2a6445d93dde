"""The measuring harness runs, reports what it cannot run, and feeds the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import backends, measure, table
from benchmarks.schema import (
    ArtifactResult,
    FirstCall,
    Package,
    Result,
    Row,
    Times,
    WeightLoading,
    read,
    write,
)


def _timed(workload: str, backend: str, milliseconds: float, **fields: object) -> Row:
    times = Times(median=milliseconds, minimum=milliseconds, maximum=milliseconds, calls=1)
    return Row(workload=workload, backend=backend, status="ok", times=times, **fields)


def _run(
    *rows: Row,
    date: str = "2026-01-01",
    device: str = "NVIDIA H200",
    kind: str = "cuda",
    tiny: bool = False,
) -> Result:
    versions = {"torch": "2.11.0", "triton": "3.6.0"}
    return Result(date=date, device=device, kind=kind, tiny=tiny, versions=versions, rows=rows)


def test_a_tiny_run_measures_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> object:
        raise backends.Unavailable("not here")

    def broken(_: object) -> object:
        raise RuntimeError("cannot compile this")

    monkeypatch.setitem(backends.BACKENDS, "effcomp", missing)
    monkeypatch.setitem(backends.BACKENDS, "inductor", broken)
    out = tmp_path / "run.json"
    names = ["--workloads", "llama_decode", "--backends", "eager,aot_eager,inductor,effcomp"]
    where = ["--tiny", "--device", "cpu", "--phases", "times,kernels", "--out", str(out)]
    result = measure.main([*names, *where])
    assert read(out) == result
    rows = {row.backend: row for row in result.rows}
    for name in ("eager", "aot_eager"):
        row = rows[name]
        assert row.status == "ok"
        assert row.times is not None
        assert row.times.minimum <= row.times.median <= row.times.maximum
        assert row.error is not None
        assert 0 < row.error < 0.05
        assert 0 < len(row.kernels) <= 15
    assert (rows["effcomp"].status, rows["effcomp"].why) == ("unavailable", "not here")
    assert (rows["inductor"].status, rows["inductor"].why) == (
        "failed",
        "RuntimeError: cannot compile this",
    )
    assert out.stat().st_size < 50_000


def test_a_spent_budget_skips(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run.json"), "--budget", "-1"]
    result = measure.main(["--tiny", "--device", "cpu", "--workloads", "flux", *out])
    assert {row.status for row in result.rows} == {"skipped"}


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no workload named 'flex'"):
        measure.main(["--workloads", "flex", "--out", str(tmp_path / "run.json")])


def test_results_survive_the_disk(tmp_path: Path) -> None:
    first = FirstCall(cold=8.5, warm=2.0)
    run = _run(_timed("flux", "effcomp", 12.5, error=0.01, peak_gib=3.0, first_call=first))
    write(run, tmp_path / "run.json")
    assert read(tmp_path / "run.json") == run


def test_the_table_takes_the_newest_run_that_timed_effcomp() -> None:
    old = _run(_timed("flux", "inductor", 20.0), _timed("flux", "effcomp", 20.0))
    good = _run(
        _timed("flux", "eager", 18.0, error=0.02, peak_gib=4.0),
        _timed("flux", "inductor", 15.0, error=0.02, peak_gib=4.0),
        _timed("flux", "effcomp", 10.0, error=0.01, peak_gib=3.0),
        date="2026-01-02",
    )
    peers_only = _run(_timed("flux", "inductor", 1.0), date="2026-01-03")
    line = table.render([old, good, peers_only]).splitlines()[2]
    assert line == "| flux | H200 | 18 | 15 |  | 10 | **1.50** | 0.50 | 0.75 |  |  |  |"


def test_first_calls_of_another_gpu_say_so() -> None:
    timed = _run(_timed("flux", "effcomp", 10.0))
    rows = [
        Row(workload="flux", backend=name, status="ok", first_call=FirstCall(cold=cold, warm=warm))
        for name, cold, warm in (("dynamo", 2, 2), ("inductor", 12, 3.5), ("effcomp", 7, 2.5))
    ]
    started = _run(*rows, device="NVIDIA A100-SXM4-80GB")
    line = table.render([timed, started]).splitlines()[2]
    assert line.endswith("| 7 / 12 (A100) | 2.5 / 3.5 (A100) | 2 (A100) |")
    assert table.render([timed, _run(*rows)]).splitlines()[2].endswith("| 2.5 / 3.5 | 2 |")


def test_decoding_is_compared_with_cuda_graphs() -> None:
    run = _run(
        _timed("llama_decode", "inductor", 2.0),
        _timed("llama_decode", "inductor_cg", 3.0),
        _timed("llama_decode", "effcomp", 2.0),
    )
    assert "**1.50**" in table.render([run])


def test_only_full_runs_on_a_gpu_count() -> None:
    row = _timed("flux", "effcomp", 1.0)
    assert table.render([_run(row, kind="cpu"), _run(row, tiny=True)]) == table.NOTHING


def test_an_artifact_is_told_in_a_line() -> None:
    times = Times(median=13.4, minimum=13.0, maximum=14.0, calls=20)
    package = Package(
        kind="effcomp", status="ok", load_seconds=0.3, first_seconds=0.18, times=times
    )
    result = ArtifactResult(
        date="2026-01-01", device="a GPU", kind="cuda", tiny=False, versions={"torch": "2.11.0"},
        workload="flux", built_with={"torch": "2.13.0", "triton": "3.7.1"}, packages=(package,),
        loading=WeightLoading(gib=2.4, rounds=3, effcomp=8.9, safetensors=7.7),
    )  # fmt: skip
    told = table.render_artifacts([result, result.model_copy(update={"tiny": True})])
    assert told.count("An artifact of flux") == 1
    assert "loads in 0.30 s, calls first in 0.18 s, then in 13.4 ms" in told
    assert told.endswith("at 8.9 GB/s, by safetensors alone at 7.7.")


def test_the_readme_says_what_the_results_say() -> None:
    assert table.main(["--check"]) == 0
