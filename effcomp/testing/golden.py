"""Golden files: programs before and after a pipeline, as text.

    // pipeline: cse,dce          (the folder's name where left out)
    // refuses: a reason          (this text is among the refusals)
    graph @before(...) {...}
    // ----
    graph @after(...) {...}
    // ====                       (the next case)

In place of the program after, a case may hold `// CHECK:` lines: see `check_text`.
"""

from dataclasses import dataclass
from pathlib import Path

from effcomp.ir import Graph, Level, print_graph, verify
from effcomp.passes.textual import parse_graph, parse_pipeline
from effcomp.rewrite import Run
from effcomp.testing.filecheck import check_text, has_directives

__all__ = ["GoldenCase", "assert_golden", "golden_cases"]

NEXT, AFTER = "// ====\n", "// ----\n"


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One program of a golden file."""

    path: Path
    index: int
    text: str

    @property
    def id(self) -> str:
        """A name for pytest: folder, file and case."""
        title = self.header("case") or str(self.index)
        return f"{self.path.parent.name}/{self.path.stem}/{title.replace(' ', '-')}"

    def header(self, key: str) -> str:
        """What a line `// key: ...` says; empty where there is none."""
        lead = f"// {key}:"
        lines = (line for line in self.text.splitlines() if line.startswith(lead))
        return next((line.removeprefix(lead).strip() for line in lines), "")

    @property
    def pipeline(self) -> str:
        return self.header("pipeline") or self.path.parent.name.replace("_", "-")

    @property
    def before(self) -> Graph:
        return parse_graph(self.text.partition(AFTER)[0])

    @property
    def after(self) -> str:
        return self.text.partition(AFTER)[2].strip() + "\n"

    def run(self, graph: Graph | None = None, pipeline: str = "") -> Run:
        """Run the case's pipeline, on its own program unless another is given."""
        graph = graph or self.before
        grouped = any(op.name.startswith("fused.") for op in graph.ops)
        level = Level.FUSED if grouped else Level.TENSOR
        return parse_pipeline(pipeline or self.pipeline, level).run(graph)

    def with_after(self, graph: Graph) -> str:
        return f"{self.text.partition(AFTER)[0].strip()}\n{AFTER}{print_graph(graph)}"


def golden_cases(folder: str | Path) -> list[GoldenCase]:
    """Every case of a golden file, or of the golden files in the folders of a folder."""
    path = Path(folder)
    files = [path] if path.is_file() else sorted(path.glob("*/*.eff"))
    return [
        GoldenCase(file, index, text)
        for file in files
        for index, text in enumerate(file.read_text().split(NEXT))
    ]


def assert_golden(
    file: str | Path | GoldenCase, pipeline: str = "", *, update: bool = False
) -> None:
    """Fail unless a golden file's programs come out as it says, and refuse as it says.

    `pipeline` is for files that name none. With `update` the file is written instead: read what it
    then holds.
    """
    __tracebackhide__ = True
    for case in [file] if isinstance(file, GoldenCase) else golden_cases(file):
        run = case.run(pipeline="" if case.header("pipeline") else pipeline)
        verify(run.graph)
        refusals = [r.reason for stage in run.stages for r in stage.refusals]
        wanted = case.header("refuses")
        assert not wanted or wanted in refusals, f"{case.id}: {wanted!r} is not in {refusals}"
        found = print_graph(run.graph)
        if has_directives(case.text):
            check_text(found, case.text)
        elif update:
            texts = case.path.read_text().split(NEXT)
            texts[case.index] = case.with_after(run.graph)
            case.path.write_text(NEXT.join(texts))
        else:
            assert found == case.after, (
                f"{case.id}: {case.pipeline} gives another program than {case.path.name} holds "
                f"(update=True writes it):\n{found}"
            )
