"""`effcomp opt`: run passes on a graph in text form, and watch them."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import OneTarget, Output, PipelineText, Plugins

if TYPE_CHECKING:
    from effcomp.ir import Graph
    from effcomp.rewrite import Pipeline, Run, Stage

__all__ = ["opt"]


GraphFile = Annotated[str, typer.Argument(metavar="GRAPH.ir", help="A graph; '-' reads stdin.")]
StopAfter = Annotated[
    str | None,
    typer.Option(metavar="PASS", help="Run no further than the first pass of this name."),
]
PrintAfterAll = Annotated[
    bool,
    typer.Option(
        "--print-after-all",
        help="Print the program to stderr after every pass.",
        rich_help_panel="Watch",
    ),
]
PrintAfter = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PASS",
        help="Print the program to stderr after this pass; repeatable.",
        rich_help_panel="Watch",
    ),
]
DumpFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="Write every stage into a folder, as NN-pass.ir.",
        rich_help_panel="Watch",
    ),
]
Time = Annotated[
    bool,
    typer.Option(
        "--time", help="Print the seconds of every pass to stderr.", rich_help_panel="Watch"
    ),
]
Matches = Annotated[
    bool,
    typer.Option(
        "--matches",
        help="Print to stderr which rules applied, how often and where.",
        rich_help_panel="Watch",
    ),
]
VerifyEach = Annotated[
    bool,
    typer.Option(help="Verify after every pass, or only at the ends.", rich_help_panel="Watch"),
]
Refusals = Annotated[
    bool,
    typer.Option(
        "--refusals", help="Print to stderr which rules refused, and why.", rich_help_panel="Watch"
    ),
]
Trace = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="Print to stderr how near this rule came to matching; repeatable.",
        rich_help_panel="Watch",
    ),
]


def opt(
    graph: GraphFile,
    pipeline: PipelineText = None,
    target: OneTarget = None,
    output: Output = None,
    stop_after: StopAfter = None,
    print_after_all: PrintAfterAll = False,
    print_after: PrintAfter = None,
    dump_dir: DumpFolder = None,
    time: Time = False,
    matches: Matches = False,
    verify_each: VerifyEach = True,
    refusals: Refusals = False,
    trace: Trace = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Run passes on a graph in text form and print what comes out.

    Without --pipeline, a --target runs its own whole pipeline; with both, the target is what passes
    with a target option compile for. With neither the graph is verified and printed again.
    """
    from effcomp.cli.console import err, note, print_json, write_text
    from effcomp.cli.user_code import load_named_plugins
    from effcomp.errors import PassError
    from effcomp.ir import print_graph

    load_named_plugins(plugin)
    source = _read(graph)
    watch = _Watch(print_after_all, frozenset(print_after or ()), dump_dir)
    start = _parse(source, "stdin" if graph == "-" else graph)
    passes = replace(_pipeline(pipeline, target, stop_after, start), trace=tuple(trace or ()))
    watch.check(passes)
    watch.on_start(start)
    try:
        run = passes.run(start, watch.on_stage, verify_each=verify_each)
    except PassError as error:
        error.add_note(f"reproduce: {_reproduction(graph, source, error.pipeline)}")
        raise
    if time:
        err().print(_timing(run))
    if matches:
        err().print(_matches(run))
    for stage in run.stages:
        for told in (*stage.misses, *(stage.refusals if refusals else ())):
            note(f"{stage.spec}: {told}", "note")
    text = print_graph(run.graph)
    if json:
        print_json({"pipeline": passes.text, "graph": text, **_data(run)})
    if output is not None or not json:
        write_text(output, text)


def _read(graph: str) -> str:
    from effcomp.errors import ParseError

    try:
        return sys.stdin.read() if graph == "-" else Path(graph).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"{graph} is not text: {error}") from None


def _parse(text: str, name: str) -> "Graph":
    from effcomp.errors import EffcompError
    from effcomp.ir import verify
    from effcomp.passes.textual import parse_graph

    try:
        graph = parse_graph(text)
        verify(graph)
    except EffcompError as error:
        error.add_note(f"in {name}")
        raise
    return graph


def _pipeline(
    text: str | None, target: str | None, stop_after: str | None, graph: "Graph"
) -> "Pipeline":
    """What is to run, from the level that the graph stands at."""
    from effcomp.config import Config
    from effcomp.errors import ConfigError, nearest
    from effcomp.ir import Level
    from effcomp.ir.levels import refused_at
    from effcomp.passes.pipelines import pipeline_for
    from effcomp.passes.textual import parse_pipeline
    from effcomp.target import TARGETS

    if text is None and target is not None:
        rows = Config.from_user(None, None).horizontal_rows
        made = pipeline_for(TARGETS[target], training=False, horizontal_rows=rows)
    else:
        shared = {"target": TARGETS[target]} if target is not None else {}
        made = parse_pipeline(text or "", shared=shared)
    if stop_after is not None:
        names = [one.name for one in made.passes]
        if stop_after not in names:
            hint = nearest(stop_after, names)
            raise ConfigError(f"--stop-after {stop_after!r} is not run; {hint}")
        made = replace(made, passes=made.passes[: names.index(stop_after) + 1])
    grouped = any(refused_at(Level.TENSOR, op) for op in graph.ops)
    return replace(made, level=Level.FUSED if grouped else Level.TENSOR)


@dataclass(slots=True)
class _Watch:
    """Prints and dumps stages as they come."""

    all: bool
    names: frozenset[str]
    folder: Path | None
    seen: int = 0

    def check(self, pipeline: "Pipeline") -> None:
        """Raise ConfigError where a pass is to be watched that does not run."""
        from effcomp.errors import ConfigError, nearest

        running = {one.name for one in pipeline.passes}
        for name in sorted(self.names - running):
            raise ConfigError(f"--print-after {name!r} is not run; {nearest(name, running)}")

    def on_start(self, graph: "Graph") -> None:
        self._dump("captured", graph)

    def on_stage(self, stage: "Stage") -> None:
        from effcomp.ir import print_graph

        self.seen += 1
        name = stage.spec.partition("{")[0]
        if self.all or name in self.names:
            what = "changed" if stage.changed else "unchanged"
            print(f"// ---- {self.seen}. after {stage.spec} ({what})", file=sys.stderr)
            print(print_graph(stage.graph), file=sys.stderr)
        self._dump(name, stage.graph)

    def _dump(self, name: str, graph: "Graph") -> None:
        from effcomp.cli.console import write_text
        from effcomp.ir import print_graph

        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / f"{self.seen:02}-{name}.ir", print_graph(graph))


def _reproduction(graph: str, source: str, pipeline: str) -> str:
    """A command that runs into the same failure; what came from stdin is kept in a file."""
    if graph == "-":
        import hashlib
        import tempfile

        digest = hashlib.sha256(source.encode()).hexdigest()[:12]
        kept = Path(tempfile.gettempdir()) / f"effcomp-{digest}.ir"
        kept.write_text(source, encoding="utf-8")
        graph = str(kept)
    return shlex.join(["effcomp", "opt", graph, "--pipeline", pipeline])


def _timing(run: "Run") -> Any:
    from effcomp.cli.console import table

    stages = run.stages[1:]
    total = run.seconds or 1.0
    rows = [
        (
            f"{stage.seconds * 1e3:.2f}",
            f"{100 * stage.seconds / total:.0f} %",
            stage.spec,
            str(len(stage.graph.ops)),
            ", ".join(f"{rule} {n}" for rule, n in stage.counts.items()),
        )
        for stage in stages
    ]
    rows.append((f"{run.seconds * 1e3:.2f}", "", "in all", str(len(run.graph.ops)), ""))
    columns = ("ms", "share", "pass", "ops", "rules applied")
    return table(columns, rows, right=("ms", "share", "ops"))


def _matches(run: "Run") -> Any:
    """Rules by pass: how often each applied, and where first."""
    from effcomp.cli.console import table

    rows = [
        (stage.spec, match.rule, str(match.count), ", ".join(match.locs))
        for stage in run.stages
        for match in stage.matches
    ]
    return table(("pass", "rule", "applied", "where"), rows, right=("applied",))


def _data(run: "Run") -> dict[str, Any]:
    return {
        "stages": [
            {
                "pass": stage.spec,
                "changed": stage.changed,
                "ops": len(stage.graph.ops),
                "seconds": stage.seconds,
                "rules": dict(stage.counts),
                "where": {match.rule: match.locs for match in stage.matches},
                "misses": [str(miss) for miss in stage.misses],
                "refusals": [str(refusal) for refusal in stage.refusals],
            }
            for stage in run.stages[1:]
        ]
    }
