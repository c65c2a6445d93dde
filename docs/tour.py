"""The whole of effcomp in one sitting: run it, and read it beside what it prints.

    python docs/tour.py

A model goes through five hands. `capture` turns what torch traced into a `Graph`, `passes` rewrite
the graph, `codegen` turns it into a `Plan`, `runtime` runs the plan on tensors, and `reference`
runs the graph op by op with plain ATen calls, so that everybody else can be checked. We take them
one after the other, first with a program of four lines, then with a block of a language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import effcomp
from effcomp.api import Compilation, recording
from effcomp.codegen import lower_graph
from effcomp.errors import PassError, VerifyError
from effcomp.explanation import report_of
from effcomp.ir import Graph, Level, Value, ops, parse_graph, print_graph, verify
from effcomp.passes.pipelines import pipeline_for
from effcomp.plan.schema import CallStep, Launch, Plan, TritonKernel
from effcomp.plan.serialize import dump_plan, load_plan
from effcomp.reference import evaluate, region_of
from effcomp.rewrite import (
    Builder,
    Log,
    Match,
    Pass,
    Pat,
    Pipeline,
    Refused,
    Rule,
    apply_rules,
    const,
    parse_pipeline,
    pat,
    var,
)
from effcomp.target import TARGETS


def title(text: str) -> None:
    print(f"\n== {text} ".ljust(100, "="))


# ---- 1. A program is text --------------------------------------------------------------------
#
# One op a line: results, the op with its operands, attributes, types, and the model's source line.
# Dims are numbers or expressions over named sizes, so one graph serves every batch. Reading what
# was printed gives the same program again; that is how tests, errors and caches speak of graphs.

TEXT = """graph @scaled(%x: f32[s0, 8], %w: weight f32[8]) {
  %one = tensor.constant() {dtype = "f32", value = 1.0} : f32[] loc "model.py:3"
  %a = tensor.mul(%x, %one) : f32[s0, 8] loc "model.py:3"
  %b = tensor.sigmoid(%a) : f32[s0, 8] loc "model.py:4"
  %c = tensor.mul(%b, %w) : f32[s0, 8] loc "model.py:5"
  return %c
}
"""


def section_text() -> Graph:
    title("1. A program is text")
    graph = parse_graph(TEXT)
    print(print_graph(graph), end="")
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)

    # Ops are declared once: the declaration infers types, and refuses what does not fit.
    x, w = graph.params
    product = ops.elementwise.mul.build(x, w)
    print(f"\n{product.name} of {x.type} and {w.type} is {product.result.type}")
    try:
        ops.nn.linear.build(x, w)
    except VerifyError as error:
        print(f"refused: {error}")
    try:
        verify(parse_graph(TEXT.replace("tensor.sigmoid", "tensor.sigmod")))
    except VerifyError as error:
        print(f"refused: {str(error).splitlines()[0]}")
    return graph


# ---- 2. A rule -------------------------------------------------------------------------------
#
# A rule has three verbs: what to look for, whether it may apply, what to build. `check` hands typed
# facts on, or refuses with a reason that is kept and counted; nothing is decided in silence.


@dataclass(frozen=True)
class FoldFactor(Rule[None]):
    """x * 1 => x."""

    def pattern(self) -> Pat:
        return pat(ops.elementwise.mul, var("x"), const("factor"))

    def check(self, m: Match) -> Refused | None:
        factor = m.numbers["factor"]
        return None if factor == 1 else Refused(f"the factor is {factor}")

    def rewrite(self, m: Match, b: Builder, facts: None) -> Value:
        return m["x"]


def section_rule(graph: Graph) -> None:
    title("2. A rule")
    log = Log()
    after = apply_rules(graph, [FoldFactor()], log)
    print(print_graph(after), end="")
    print(f"applied: {dict(log.counts)}")

    doubled = parse_graph(TEXT.replace("value = 1.0", "value = 2.0"))
    assert apply_rules(doubled, [FoldFactor()], log) is doubled, "unchanged is the same object"
    print(f"refusals: {', '.join(map(str, log.refusals))}")

    # The oracle runs both: a rewrite keeps the numbers, or it is no rewrite.
    x, w = torch.randn(3, 8), torch.randn(8)
    (before,), (rewritten,) = evaluate(graph, [x, w]), evaluate(after, [x, w])
    assert isinstance(before, Tensor)
    assert isinstance(rewritten, Tensor)
    print(f"largest difference: {(before - rewritten).abs().max().item()}")


# ---- 3. A pass, and a pipeline of them ------------------------------------------------------
#
# A pass is a frozen dataclass from Graph to Graph. Its fields are its options, its name is how a
# pipeline spells it, and it says at which level of lowering it works. The pipeline verifies the
# program after every pass, so the one that broke it is named, with the text that reproduces it.


@dataclass(frozen=True, slots=True)
class FoldFactors:
    """Drop multiplications by one."""

    name: ClassVar[str] = "fold-factors"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        return apply_rules(graph, [FoldFactor()], log)


@dataclass(frozen=True, slots=True)
class Forget:
    """A pass with a mistake in it: it drops an op that is still read."""

    name: ClassVar[str] = "forget"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR
    index: int = 0

    def run(self, graph: Graph, log: Log) -> Graph:
        kept = graph.ops[: self.index] + graph.ops[self.index + 1 :]
        return Graph(graph.name, graph.params, kept, graph.outputs)


def section_pass(graph: Graph) -> None:
    title("3. A pass, and a pipeline of them")
    registry: dict[str, type[Pass]] = {"fold-factors": FoldFactors, "forget": Forget}
    run = parse_pipeline("fold-factors", registry).run(graph)
    for stage in run.stages:
        print(f"{stage.spec:14} {len(stage.graph.ops)} ops {dict(stage.counts)}")
    try:
        Pipeline((FoldFactors(), Forget(index=0))).run(graph)
    except PassError as error:
        print(f"\n{error}")


# ---- 4. Capture ------------------------------------------------------------------------------
#
# Now a real block: what a Llama layer does after attention. The driver records what it does when it
# compiles, and a compilation holds every stage. No GPU is needed to compile for one: the plan below
# is for sm_90, and on this machine's CPU its kernels run in Triton's interpreter.


class FeedForward(nn.Module):
    def __init__(self, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


def section_capture(model: nn.Module, x: Tensor) -> Compilation:
    title("4. Capture")
    options: dict[str, Any] = {"target": "cuda:90"}
    with torch.no_grad(), recording() as records:
        compiled = torch.compile(model, backend=effcomp.backend, dynamic=True, options=options)
        compiled(x)
    (record,) = records
    print(print_graph(record.captured.graph), end="")
    return record


# ---- 5. Passes -------------------------------------------------------------------------------
#
# `pipeline_for` is the table of contents: which passes run for a target, and in which order. At the
# end every op is a kernel, a library call or a view. A group's body is an ordinary graph.


def section_passes(record: Compilation) -> Graph:
    title("5. Passes")
    pipeline = pipeline_for(TARGETS["cuda:90"], training=False, horizontal_rows=1024)
    print(f"{pipeline.text}\n")
    run = pipeline.run(record.captured.graph)
    for stage in run.stages:
        counts = ", ".join(f"{rule} {n}" for rule, n in stage.counts.items())
        print(f"{stage.spec.partition('{')[0]:20} {len(stage.graph.ops):3} ops  {counts}")
    print(f"\n{print_graph(run.graph)}", end="")
    verify(run.graph, Level.KERNEL)
    for stage in run.stages:
        for refusal in stage.refusals:
            print(f"{stage.spec.partition('{')[0]}: {refusal}")
    return run.graph


# ---- 6. Code generation ----------------------------------------------------------------------
#
# A plan is data: buffers with their places in one arena, kernels as source text, and steps in
# order, with sizes as expressions. It can be written to disk and run by a process that has never
# seen the compiler.


def section_codegen(graph: Graph) -> Plan:
    title("6. Code generation")
    plan = lower_graph(graph, TARGETS["cuda:90"], region_of=region_of)
    for step, cost in zip(plan.steps, plan.costs, strict=True):
        match step:
            case Launch(label=label, grid=grid):
                print(f"launch  {label}  grid {grid}  {cost.bytes} bytes, {cost.flops} FLOPs")
            case CallStep(call=call, out=out):
                print(f"call    {out or call.target}  {cost.bytes} bytes, {cost.flops} FLOPs")
            case _:
                raise AssertionError("a region: those are for the CPU")
    for note in plan.notes:
        print(f"note: {note}")
    kernels = [kernel for kernel in plan.kernels if isinstance(kernel, TritonKernel)]
    print(f"\n# {kernels[0].function}, one of {len(kernels)} kernels\n{kernels[0].source}")
    assert load_plan(dump_plan(plan)) == plan
    return plan


# ---- 7. Running ------------------------------------------------------------------------------
#
# Through the front door again, now for the CPU itself: fused regions become C++ where that pays,
# the rest are ATen calls. `explain` says what was done, what was refused, and what moves how much.


def section_running(model: nn.Module, record: Compilation) -> None:
    title("7. Running")
    assert record.executable is not None
    for rows in (5, 9):
        x = torch.randn(2, rows, 32)
        with torch.no_grad():
            expected = model(x)
            found = torch.compile(model, backend=effcomp.backend, dynamic=True)(x)
        print(f"{rows} rows: largest difference {(found - expected).abs().max().item():.1e}")
    print(f"\nthe GPU plan, interpreted, peaked at {report_of(record).peak_bytes} bytes")
    print("\nexplain, on the CPU:")
    with torch.no_grad():
        print(effcomp.explain(model, torch.randn(2, 5, 32)))


def main() -> None:
    torch.manual_seed(0)
    graph = section_text()
    section_rule(graph)
    section_pass(graph)
    model, x = FeedForward().eval(), torch.randn(2, 5, 32)
    record = section_capture(model, x)
    section_codegen(section_passes(record))
    section_running(model, record)


if __name__ == "__main__":
    main()
