"""Golden files: programs before and after a pass, as text.

// pipeline: cse,dce          (the folder's name where left out)
// refuses: a reason          (this text is among the refusals)
graph @before(...) {...}
// ----
graph @after(...) {...}
// ====                       (the next case)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effcomp.ir import Graph, Level, parse_graph, print_graph
from effcomp.passes import PASSES
from effcomp.rewrite import Run, parse_pipeline

ROOT = Path(__file__).parent
NEXT, AFTER = "// ====\n", "// ----\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One program of a golden file."""

    path: Path
    index: int
    text: str

    @property
    def id(self) -> str:
        title = self.header("case") or str(self.index)
        return f"{self.path.parent.name}/{self.path.stem}/{title.replace(' ', '-')}"

    def header(self, key: str) -> str:
        lines = (line.removeprefix(f"// {key}:") for line in self.text.splitlines())
        return next(
            (a.strip() for a, b in zip(lines, self.text.splitlines(), strict=True) if a != b), ""
        )

    @property
    def pipeline(self) -> str:
        return self.header("pipeline") or self.path.parent.name.replace("_", "-")

    @property
    def before(self) -> Graph:
        return parse_graph(self.text.partition(AFTER)[0])

    @property
    def after(self) -> str:
        return self.text.partition(AFTER)[2].strip() + "\n"

    def run(self, graph: Graph | None = None) -> Run:
        graph = graph or self.before
        grouped = any(op.name.startswith("fused.") for op in graph.ops)
        level = Level.FUSED if grouped else Level.TENSOR
        return parse_pipeline(self.pipeline, PASSES, level).run(graph)

    def with_after(self, graph: Graph) -> str:
        return f"{self.text.partition(AFTER)[0].strip()}\n{AFTER}{print_graph(graph)}"


def cases() -> list[Case]:
    """Every case of every golden file."""
    return [
        Case(path, index, text)
        for path in sorted(ROOT.glob("*/*.eff"))
        for index, text in enumerate(path.read_text().split(NEXT))
    ]
