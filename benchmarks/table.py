"""Renders the README's table of measurements from the committed result files.

    python -m benchmarks.table            rewrite the part of README.md between the markers
    python -m benchmarks.table --check    exit with 1 where the README is not what they say

Only runs on a GPU with the full models count. Times are compared within one run only: for every
workload the newest run that timed effcomp is taken, or the newest that timed anything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.schema import ArtifactResult, Result, Row, read, read_artifact_result
from benchmarks.workloads import WORKLOADS

__all__ = ["main", "render", "render_artifacts"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"

# What effcomp has to beat: the faster of these. Decoding is launch-bound, so there it is the mode
# that records CUDA graphs.
PEERS = dict.fromkeys(WORKLOADS, ("eager", "inductor")) | {"llama_decode": ("inductor_cg",)}
COLUMNS = (
    "Workload",
    "GPU",
    "eager, ms",
    "Inductor, ms",
    "with CUDA graphs, ms",
    "effcomp, ms",
    "speed to peer",
    "error to Inductor",
    "memory to Inductor",
    "first call, s",
    "warm first call, s",
    "Dynamo alone, s",
)
NOTHING = "No result of a GPU is committed yet; `benchmarks/README.md` says how to measure one."


def _rows_of(result: Result, workload: str) -> dict[str, Row]:
    return {row.backend: row for row in result.rows if row.workload == workload}


def _newest(
    results: Iterable[Result], workload: str, has: Callable[[Row], bool]
) -> tuple[Result, dict[str, Row]] | None:
    """Find the newest run with such a row of effcomp, or else of any backend."""
    runs = [(result, _rows_of(result, workload)) for result in results]
    runs = [(result, rows) for result, rows in runs if any(map(has, rows.values()))]
    if not runs:
        return None
    ours = [run for run in runs if "effcomp" in run[1] and has(run[1]["effcomp"])]
    return max(ours or runs, key=lambda run: run[0].date)


def _median(row: Row | None) -> float | None:
    return row.times.median if row and row.times else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""


def _card(result: Result) -> str:
    """The GPU's name as people say it: H200 of NVIDIA H200, A100 of NVIDIA A100-SXM4-80GB."""
    return result.device.removeprefix("NVIDIA ").replace("-", " ").split()[0]


def _first_calls(started: tuple[Result, dict[str, Row]] | None, card: str) -> list[str]:
    """Seconds of effcomp against Inductor's, cold and warm, and what any backend waits for.

    They name their GPU where it is not `card`.
    """
    if started is None:
        return ["", "", ""]
    result, rows = started
    elsewhere = "" if _card(result) == card else f" ({_card(result)})"

    def seconds(kind: str, *names: str) -> str:
        calls = [row.first_call for name in names if (row := rows.get(name))]
        spans = [_number(getattr(call, kind)) for call in calls if call]
        return " / ".join(spans) + elsewhere if spans else ""

    both = ("effcomp", "inductor")
    return [seconds("cold", *both), seconds("warm", *both), seconds("warm", "dynamo")]


def _line(workload: str, results: Sequence[Result]) -> str | None:
    timed = _newest(results, workload, lambda row: row.times is not None)
    if timed is None:
        return None
    result, rows = timed
    started = _newest(results, workload, lambda row: row.first_call is not None)
    ours, inductor = rows.get("effcomp"), rows.get("inductor")
    peers = [m for name in PEERS[workload] if (m := _median(rows.get(name))) is not None]
    mine = _median(ours)
    speed = f"**{min(peers) / mine:.2f}**" if peers and mine else ""
    medians = [_number(_median(rows.get(name))) for name in ("eager", "inductor", "inductor_cg")]
    cells = [
        workload,
        _card(result),
        *medians,
        _number(mine),
        speed,
        _ratio(ours.error if ours else None, inductor.error if inductor else None),
        _ratio(ours.peak_gib if ours else None, inductor.peak_gib if inductor else None),
        *_first_calls(started, _card(result)),
    ]
    return "| " + " | ".join(cells) + " |"


def render(results: Sequence[Result]) -> str:
    """Render the part of the README that stands between the markers."""
    counted = [result for result in results if result.kind == "cuda" and not result.tiny]
    lines = [line for name in WORKLOADS if (line := _line(name, counted))]
    if not lines:
        return NOTHING
    versions = sorted({(r.versions["torch"], r.versions["triton"]) for r in counted})
    software = "; ".join(f"torch {torch}, Triton {triton}" for torch, triton in versions)
    head = "| " + " | ".join(COLUMNS) + " |"
    rule = "| --- | --- |" + " ---: |" * (len(COLUMNS) - 2)
    legend = (
        f"Measured with {software}; medians of calls taken in turns in one process. Speed is the "
        "faster of eager and Inductor (llama_decode: Inductor with CUDA graphs) over effcomp, so "
        "above 1 effcomp is faster. Error (against float32) and peak memory are effcomp's over "
        "Inductor's. First calls are effcomp / Inductor, each in a new process, warm ones with "
        "the caches of an earlier process. The last column is a warm one with the backend that "
        "compiles nothing: Dynamo's own time. Empty cells were not measured."
    )
    return "\n".join([head, rule, *lines, "", legend])


def render_artifacts(results: Sequence[ArtifactResult]) -> str:
    """Render a line on the newest artifact of every workload that was carried to a GPU."""
    counted = [r for r in sorted(results, key=lambda r: r.date) if r.kind == "cuda" and not r.tiny]
    newest = {result.workload: result for result in counted}
    return "".join(f"\n\n{_artifact_line(result)}" for result in newest.values())


def _artifact_line(result: ArtifactResult) -> str:
    built = result.built_with
    told = [
        f"An artifact of {result.workload}, compiled for cuda:90 on a machine without a GPU (torch "
        f"{built['torch']}, Triton {built['triton']}) and loaded on {result.device} under torch "
        f"{result.versions['torch']}:"
    ]
    for package in result.packages:
        if package.times and package.load_seconds is not None:
            name = {"effcomp": "effcomp", "aotinductor": "AOTInductor"}[package.kind]
            told.append(
                f"{name} loads in {package.load_seconds:.2f} s, calls first in "
                f"{package.first_seconds:.2f} s, then in {package.times.median:.1f} ms;"
            )
    if loading := result.loading:
        told.append(
            f"weights load at {loading.effcomp:.1f} GB/s, by safetensors alone at "
            f"{loading.safetensors:.1f};"
        )
    if lora := result.lora:
        away = f"{lora.difference:.1g} away from" if lora.difference else "exactly as"
        told.append(
            f"an adapter of rank {lora.rank} on {lora.weights} weights is in after "
            f"{lora.first * 1e3:.0f} ms, the next after {lora.next * 1e3:.1f} ms, the results "
            f"{away} those of a fresh compilation;"
        )
    return " ".join(told).rstrip(";") + "."


def _place(readme: str, table: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the README; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(argv)
    others = ("-predicted", "-artifact")
    measured = (p for p in sorted(RESULTS.glob("*.json")) if not p.stem.endswith(others))
    carried = sorted(RESULTS.glob("*-artifact.json"))
    table = render([read(path) for path in measured])
    table += render_artifacts([read_artifact_result(path) for path in carried])
    now = README.read_text()
    wanted = _place(now, table)
    if arguments.check:
        if now != wanted:
            print("README.md is not what benchmarks/results say: run python -m benchmarks.table")
        return int(now != wanted)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
