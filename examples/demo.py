"""Compiles a small trained FLUX model, draws with it, and shows that the images stay the same.

    python examples/demo.py --text Flux --colour yellow --style stripes --steps 10 --out demo-out

Prints a table of seconds a call beside eager (on a GPU also beside Inductor), where the time of the
first call went, the steps that move most bytes, and how far the images are from eager's. Writes
`OUT/side-by-side.png` (eager above, effcomp below) and one picture for each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.box import SIMPLE
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from effcomp.api import Compilation, backend, recording
from effcomp.explanation import report_of
from effcomp.report.schema import GroupReport

MODEL = Path(__file__).parent / "models" / "flux-glyphs"
sys.path.insert(0, str(MODEL))  # the model's own scripts
import judge as judging  # noqa: E402
import sample as glyphs  # noqa: E402

LEAST_PSNR = {torch.float32: 60.0, torch.bfloat16: 30.0}
LARGEST = 8
console = Console()


@dataclass
class Clock:
    """A model that times its calls. `euler` sees the model through it."""

    call: Callable[..., Any]
    dtype: torch.dtype
    progress: Progress
    name: str
    steps: int
    spans: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = self.progress.add_task(self.name, total=self.steps)

    def __call__(self, **inputs: Any) -> Any:
        _wait()
        start = time.perf_counter()
        output = self.call(**inputs)
        _wait()
        self.spans.append(time.perf_counter() - start)
        self.progress.advance(self.task)
        return output

    @property
    def steady(self) -> float:
        """The fastest call: others on the machine can only make one slower."""
        return min(self.spans[1:])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", default="Flux", help="letters and digits to draw")
    parser.add_argument("--colour", default="yellow", choices=glyphs.COLOURS)
    parser.add_argument("--style", default="stripes", choices=glyphs.STYLES)
    parser.add_argument("--steps", type=int, default=10, help="Euler steps, at least 2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.text) - set(glyphs.CHARS)):
        parser.error(f"the model draws letters and digits, not {''.join(unknown)!r}")
    if arguments.steps < 2 or not arguments.text:
        parser.error("there is nothing to compare without two steps and one letter")
    return arguments


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean over the images, in dB; peak 2 for data in [-1, 1]."""
    error = (images - others).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / error.clamp_min(1e-12))).mean().item()


def show_times(clocks: list[Clock], records: list[Compilation]) -> None:
    columns = ("", "first call, s", "fastest call, s", "to eager")
    table = Table(*columns, title="One denoising step", box=SIMPLE)
    for clock in clocks:
        speed = clocks[0].steady / clock.steady
        first, steady = f"{clock.spans[0]:.2f}", f"{clock.steady:.4f}"
        table.add_row(clock.name, first, steady, f"{speed:.2f}x")
    console.print(table)
    total, steady = clocks[1].spans[0], clocks[1].steady
    stages = {"passes": "passes", "code generation": "codegen", "loading": "load"}
    seconds = {name: sum(r.seconds[stage] for r in records) for name, stage in stages.items()}
    if regions := sum(r.executable.compile_seconds for r in records if r.executable):
        seconds["C++ compilation of regions"] = regions
    tracing = max(0.0, total - sum(seconds.values()) - steady)
    parts = {"tracing and capture": tracing, **seconds, "the step itself": steady}
    first = Table(box=None, show_header=False, title="Where effcomp's first call went, s")
    for name, value in parts.items():
        first.add_row(name, f"{value:7.2f}")
    console.print(first)


def show_steps(records: list[Compilation]) -> None:
    for record in records:
        report = report_of(record)
        console.print(
            f"\n{report.name}: {report.modelled} of {report.total} ops modelled\n"
            f"  {len(report.groups)} steps, {len(report.kernels)} distinct kernels, "
            f"{report.peak_bytes / 2**20:.1f} MiB at the peak"
        )
        for note in report.notes:
            console.print(Padding(f"note: {note}", (0, 0, 0, 2)))
        title = f"The {LARGEST} kinds of step that move most"
        table = Table(title=title, box=SIMPLE)
        table.add_column("step", overflow="fold")
        for name in ("times", "MiB", "GFLOP"):
            table.add_column(name, justify="right")
        table.add_column("first in the model", no_wrap=True)
        alike: dict[tuple[str, str], list[GroupReport]] = {}
        for group in report.groups:
            alike.setdefault((group.kind, group.label), []).append(group)
        largest = sorted(alike.items(), key=lambda item: -_bytes(item[1]))[:LARGEST]
        for (_, label), groups in largest:
            size, work = _bytes(groups) / 2**20, sum(g.flops for g in groups) / 1e9
            table.add_row(label, str(len(groups)), f"{size:.1f}", f"{work:.2f}", groups[0].loc)
        console.print(table)


def above_each_other(rows: list[Image.Image]) -> Image.Image:
    """One picture of two rows, with a white line between them."""
    upper, lower = rows
    both = Image.new("RGB", (upper.width, upper.height + 8 + lower.height), "white")
    both.paste(upper, (0, 0))
    both.paste(lower, (0, upper.height + 8))
    return both


def _bytes(groups: list[GroupReport]) -> int:
    return sum(group.bytes for group in groups)


def main() -> int:
    arguments = parse()
    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model, conditions = glyphs.load(device=str(device), dtype=dtype)
    count = len(arguments.text)
    wanted = (
        torch.tensor([glyphs.CHARS.index(c) for c in arguments.text]),
        torch.full((count,), glyphs.COLOURS.index(arguments.colour)),
        torch.full((count,), glyphs.STYLES.index(arguments.style)),
    )
    prompt = glyphs.embed(conditions, *(index.to(device) for index in wanted))

    calls = {"eager": model, "effcomp": torch.compile(model, backend=backend)}
    if device.type == "cuda":
        calls["inductor"] = torch.compile(model, backend="inductor")
    bar = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn())
    images: dict[str, Tensor] = {}
    clocks: list[Clock] = []
    with recording() as records, Progress(*bar, TimeElapsedColumn(), console=console) as progress:
        for name, call in calls.items():
            clocks.append(Clock(call, dtype, progress, name, arguments.steps))
            drawn = glyphs.euler(clocks[-1], *prompt, steps=arguments.steps, seed=arguments.seed)
            images[name] = drawn.float().cpu()

    show_times(clocks, records)
    show_steps(records)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = [glyphs.grid(images[name], count, zoom=8) for name in ("eager", "effcomp")]
    for name, row in zip(("eager", "effcomp"), rows, strict=True):
        row.save(arguments.out / f"{name}.png")
    above_each_other(rows).save(arguments.out / "side-by-side.png")

    reader = judging.load_judge()
    for name, drawn in images.items():
        shares = judging.accuracy(reader, drawn, *wanted)
        read = ", ".join(f"{what} {share:.0%}" for what, share in shares.items())
        console.print(f"{name}: the judge reads as asked: {read}")
    apart = (images["effcomp"] - images["eager"]).abs().max().item()
    decibels = psnr(images["effcomp"], images["eager"])
    console.print(f"effcomp to eager: largest difference {apart:.1e}, PSNR {decibels:.1f} dB")
    console.print(f"pictures: {arguments.out}/")
    if decibels < LEAST_PSNR[dtype]:
        console.print(f"[red]the images differ: less than {LEAST_PSNR[dtype]:.0f} dB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
