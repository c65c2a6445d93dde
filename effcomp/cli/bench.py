"""`effcomp bench`: how long calls take, and how far the results are from eager's."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effcomp.cli.command import Json
from effcomp.cli.exits import ExitCode
from effcomp.cli.options import (
    Device,
    Dtype,
    From,
    Inputs,
    Options,
    PipelineText,
    Plugins,
    Sizes,
    Subject,
)

if TYPE_CHECKING:
    from effcomp.cli.timing import Lane

__all__ = ["bench"]

_NOISE = 2.0  # of the slowest tenth of calls to the fastest, on a quiet machine less
_PEERS = ("eager", "inductor", "inductor-reduce-overhead", "inductor-max-autotune")

Against = Annotated[
    str, typer.Option(metavar="PEERS", help=f"Comma-separated: {', '.join(_PEERS)}.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="The model that an artifact is of, to compare it with; or --from.",
    ),
]
Seconds = Annotated[float, typer.Option(metavar="S", help="Time each for about so long.")]
Tolerance = Annotated[
    float | None,
    typer.Option(
        metavar="E", help="End with 1 if the relative error against eager is larger than this."
    ),
]


def bench(
    subject: Subject = None,
    against: Against = "eager",
    model: Model = None,
    seconds: Seconds = 2.0,
    tolerance: Tolerance = None,
    pipeline: PipelineText = None,
    option: Options = None,
    plugin: Plugins = None,
    library: From = None,
    inputs: Inputs = None,
    size: Sizes = None,
    dtype: Dtype = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Time calls of an artifact or a model, beside its peers, in turns in one process.

    A model goes through torch.compile(backend="effcomp"). Without its model an artifact is timed
    alone, with made-up arguments. Errors are relative to eager: |difference| / |eager's|.
    """
    import torch

    from effcomp.cli.bench_lanes import lanes_of
    from effcomp.cli.console import note, print_json, status
    from effcomp.cli.settings import config_of, parse_sizes
    from effcomp.cli.timing import machine, run_lanes
    from effcomp.cli.user_code import load_named_plugins

    load_named_plugins(plugin)
    peers = _peers(against)
    config = config_of(option or (), pipeline)
    with status("loading"):
        lanes, where = lanes_of(
            subject, model, library, peers, config, inputs=inputs,
            sizes=parse_sizes(size or ()), dtype=dtype, device=device,
        )  # fmt: skip
    with torch.no_grad():
        run_lanes(lanes, where, seconds)
    if len(lanes) == 1 and peers:
        note(
            "an artifact is compared with its model only where one is named: --model or --from",
            "note",
        )
    rows = [lane.data() for lane in lanes.values()]
    _add_comparisons(rows, lanes)
    if json:
        print_json({"machine": machine(where), "lanes": rows})
    else:
        _show(rows)
    if any(row["p90_ms"] > _NOISE * row["p10_ms"] for row in rows if "p10_ms" in row):
        note("times vary widely between calls: something else may be using this machine", "warning")
    _check(rows, tolerance)


def _peers(text: str) -> list[str]:
    from effcomp.errors import ConfigError, nearest

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _PEERS:
            raise ConfigError(f"--against {name!r} is no peer; {nearest(name, _PEERS)}")
    return names


def _add_comparisons(rows: list[dict[str, Any]], lanes: "dict[str, Lane]") -> None:
    """Each row's error against eager, and by how much effcomp's is faster than it."""
    from effcomp.cli.bench_lanes import relative_error

    eager, own = lanes.get("eager"), rows[0]
    for row, lane in zip(rows, lanes.values(), strict=True):
        if lane.failure:
            continue
        if eager is not None and not eager.failure:
            row["error"] = relative_error(lane.output, eager.output)
        row["speedup"] = row["median_ms"] / own["median_ms"]


def _show(rows: list[dict[str, Any]]) -> None:
    from effcomp.cli.console import out, size_text, table

    def shown(row: dict[str, Any], key: str, form: Callable[[Any], str]) -> str:
        return "" if row.get(key) is None else form(row[key])

    lines: list[tuple[str, ...]] = []
    for row in rows:
        if "failure" in row:
            lines.append((row["name"], *7 * ("",), row["failure"]))
            continue
        times = [f"{row[key]:.3f}" for key in ("median_ms", "p10_ms", "p90_ms")]
        lines.append(
            (
                row["name"],
                *times,
                shown(row, "speedup", lambda s: f"{s:.2f}x"),
                shown(row, "error", lambda e: f"{e:.1e}"),
                f"{row['first_call_s']:.2f}",
                shown(row, "peak_bytes", size_text),
                "",
            )
        )
    columns = ("", "median ms", "p10", "p90", "speedup", "error", "first s", "memory", "")
    out().print(table(columns, lines, right=columns[1:8]))


def _check(rows: list[dict[str, Any]], tolerance: float | None) -> None:
    from effcomp.cli.console import note

    own = rows[0]
    if tolerance is None:
        return
    if "error" not in own:
        note("--tolerance compares with eager, which was not run", "error")
        raise typer.Exit(ExitCode.USAGE)
    if not own["error"] <= tolerance:
        note(f"the error {own['error']:.1e} is larger than {tolerance:.1e}", "error")
        raise typer.Exit(ExitCode.CHECK)
