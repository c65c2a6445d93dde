"""Pipelines: stages, levels, errors, and their text form."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from effcomp.errors import ConfigError, PassError
from effcomp.ir import Graph, Level, Value, parse_graph
from effcomp.rewrite import Log, Pass, Pipeline, parse_pipeline, spec_text
from effcomp.target import TARGETS, Target

GRAPH = """graph @g(%x: f32[2, 4]) {
  %0 = tensor.neg(%x) : f32[2, 4] loc "m.py:1"
  %1 = tensor.exp(%0) : f32[2, 4] loc "m.py:2"
  return %1
}"""


@dataclass(frozen=True, slots=True)
class DropLast:
    name: ClassVar[str] = "drop-last"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.TENSOR

    def run(self, graph: Graph, log: Log) -> Graph:
        log.applied("DropLast", graph.ops[-1].loc)
        for _ in range(3):
            log.refused("DropFirst", graph.ops[0].loc, "it is the first")
        return replace(graph, ops=graph.ops[:-1], outputs=graph.ops[-1].operands)


@dataclass(frozen=True, slots=True)
class Chunk:
    name: ClassVar[str] = "chunk"
    takes: ClassVar[Level | None] = None
    gives: ClassVar[Level | None] = None

    min_rows: int = 256
    dims: tuple[int, ...] = ()
    where: str = ""
    ratio: float | None = None
    target: Target | None = None
    fast: bool = False

    def run(self, graph: Graph, log: Log) -> Graph:
        del log
        return graph


@dataclass(frozen=True, slots=True)
class Break:
    how: str
    name: ClassVar[str] = "break"
    takes: ClassVar[Level | None] = Level.TENSOR
    gives: ClassVar[Level | None] = Level.KERNEL

    def run(self, graph: Graph, log: Log) -> Graph:
        del log
        if self.how == "raise":
            error = ValueError("a surprise")
            error.add_note("at op 3")
            raise error
        if self.how == "level":
            return replace(graph)
        stranger = Value(graph.params[0].type)
        return replace(graph, ops=(replace(graph.ops[0], operands=(stranger,)), *graph.ops[1:]))


REGISTRY: dict[str, type[Pass]] = {"drop-last": DropLast, "chunk": Chunk, "break": Break}


def test_every_stage_is_kept() -> None:
    graph = parse_graph(GRAPH)
    seen: list[str] = []
    run = Pipeline((DropLast(), Chunk())).run(graph, on_stage=lambda s: seen.append(s.spec))
    captured, dropped, chunked = run.stages
    assert captured.graph is graph
    assert (dropped.changed, chunked.changed) == (True, False)
    assert run.graph is chunked.graph is dropped.graph
    assert dropped.counts == {"DropLast": 1} == run.counts
    (refusal,) = dropped.refusals
    assert (refusal.count, refusal.locs) == (3, ("m.py:1",))
    assert seen == ["drop-last", "chunk"]
    assert run.seconds > 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "break failed: ValueError: a surprise\nat op 3"),
        ("value", "broke the program: tensor.neg: operand 0 is used before it is defined\n > %0"),
        ("level", "broke the program: tensor.neg is not legal at level 'kernel'"),
    ],
)
def test_a_failing_pass_is_named_and_reproducible(how: str, message: str) -> None:
    pipeline = Pipeline((Chunk(min_rows=3), Break(how)))
    with pytest.raises(PassError) as caught:
        pipeline.run(parse_graph(GRAPH))
    assert message in str(caught.value)
    text = f"chunk{{min_rows=3}},break{{how={how}}}"
    assert f"in @g; reproduce with the pipeline '{text}'" in str(caught.value)
    assert parse_pipeline(text, REGISTRY) == pipeline


def test_a_pass_is_not_given_a_level_it_cannot_take() -> None:
    text = (
        "graph @g(%x: f32[2]) {\n%0 = fused.pointwise(%x) : f32[2] @b(%a: f32[2]) {\n"
        "%0 = tensor.neg(%a) : f32[2]\nreturn %0\n}\nreturn %0\n}"
    )
    with pytest.raises(PassError, match=r"cannot run drop-last: fused\.pointwise is not legal"):
        Pipeline((DropLast(),), Level.FUSED).run(parse_graph(text))


@pytest.mark.parametrize(
    "text",
    [
        "chunk",
        "drop-last,chunk",
        "chunk{min_rows=5}",
        "chunk{dims=[1,-2],fast=true}",
        'chunk{where="a, {b}"},chunk{where=attn.to_q}',
        "chunk{ratio=0.5,target=cuda:90}",
    ],
)
def test_text_round_trip(text: str) -> None:
    assert parse_pipeline(text, REGISTRY).text == text


def test_named_passes_are_left_out() -> None:
    pipeline = parse_pipeline("drop-last,chunk,drop-last", REGISTRY, Level.FUSED)
    assert pipeline.without(("drop-last",)).text == "chunk"
    assert pipeline.without(("drop-last",)).level is Level.FUSED
    assert pipeline.without(()).text == pipeline.text


def test_options_have_their_types() -> None:
    (one,) = parse_pipeline("chunk{dims=[1,2], ratio = 2 ,target=cpu}", REGISTRY).passes
    assert one == Chunk(dims=(1, 2), ratio=2.0, target=TARGETS["cpu"])
    assert spec_text(one) == "chunk{dims=[1,2],ratio=2.0,target=cpu}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chonk", "unknown pass 'chonk'; did you mean 'chunk'?"),
        ("zzz", "unknown pass 'zzz'; known: break, chunk, drop-last"),
        ("chunk{min_row=5}", "chunk has no option 'min_row'; did you mean 'min_rows'?"),
        ("chunk{min_rows=a}", "option 'min_rows' of chunk: expected int, found 'a'"),
        ("chunk{fast=1}", "option 'fast' of chunk: expected true or false, found '1'"),
        ("chunk{dims=1}", "option 'dims' of chunk: expected a list such as [1,2], found '1'"),
        ("chunk{target=cuda:9}", "unknown target 'cuda:9'; did you mean 'cuda:90'?"),
        ("chunk{min_rows}", "option 'min_rows' of chunk has no value"),
        ("chunk{min_rows=5", "brackets or quotes are not closed"),
        ("break", "break needs option 'how'"),
    ],
)
def test_bad_text_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_pipeline(text, REGISTRY)
    assert message in str(caught.value)
