"""Where registered passes stand, how they are left out, and that they shape the cache key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import effcomp as ec
from effcomp import compiling
from effcomp.capture import Role
from effcomp.errors import ConfigError, PluginError
from effcomp.passes.pipelines import pipeline_for
from effcomp.plugins import isolated
from effcomp.plugins.digest import registered_text
from effcomp.target import TARGETS, Target


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolated():
        yield


@dataclass(frozen=True)
class FoldSigns(ec.Rule[None]):
    """-(-x) => x + 0, which is told from canonicalize's own rule."""

    zero: float = 0.0

    def pattern(self) -> ec.ops.elementwise.OpSpec:
        return ec.pat(ec.ops.elementwise.neg, ec.pat(ec.ops.elementwise.neg, ec.var("x")))

    def rewrite(self, m: ec.Match, b: ec.Builder, facts: None) -> ec.Value:
        zero = b.constant(self.zero, m["x"].dtype)
        return b.add(ec.ops.elementwise.add, m["x"], zero)


def one(name: str) -> type[ec.Pass]:
    return ec.pass_of(name, FoldSigns())


def names(target: str = "cuda:90", training: bool = False) -> list[str]:
    pipeline = pipeline_for(TARGETS[target], training=training, horizontal_rows=1024)
    return [p.name for p in pipeline.passes]


def test_without_a_place_a_pass_waits_to_be_named() -> None:
    before = names()
    ec.register(one("a"))
    assert names() == before
    assert ec.parse_pipeline("a").text == "a"


def test_before_and_after_count_the_first_run_and_keep_their_order() -> None:
    ec.register(one("a"), one("b"), before="canonicalize")
    ec.register(one("c"), one("d"), after="canonicalize")
    ec.register(one("e"), before="b")
    ec.register(one("f"), after=("none-such", "d"))
    found = names()
    assert found[: found.index("cse")] == [
        "decompose",
        "a",
        "e",
        "b",
        "canonicalize",
        "c",
        "d",
        "f",
    ]


def test_a_pass_stands_where_its_neighbour_would() -> None:
    ec.register(one("a"), before="fuse-epilogue")
    cpu = names("cpu")
    assert "fuse-epilogue" not in cpu
    assert cpu[cpu.index("a") - 1 : cpu.index("a") + 2] == ["fuse-rowwise", "a", "fuse-pointwise"]


def test_targets_and_training() -> None:
    ec.register(one("gpu"), before="dce", targets=("cuda",))
    ec.register(one("fixed"), before="dce", training=False)
    assert [n for n in names("cpu") if n in ("gpu", "fixed")] == ["fixed"]
    assert [n for n in names(training=True) if n in ("gpu", "fixed")] == ["gpu"]


def test_a_pass_that_wants_the_target_is_told() -> None:
    @dataclass(frozen=True)
    class Wants:
        """Nothing."""

        target: Target
        name: ClassVar[str] = "wants"
        takes: ClassVar[ec.Level | None] = None
        gives: ClassVar[ec.Level | None] = None

        def run(self, graph: ec.Graph, log: ec.Log) -> ec.Graph:
            return graph

    ec.register(Wants, after="decompose")
    assert pipeline_for(TARGETS["cpu"], training=False, horizontal_rows=0).text.startswith(
        "decompose{target=cpu},wants{target=cpu}"
    )


def test_neighbours_that_nobody_knows_and_circles() -> None:
    with pytest.raises(PluginError, match="give one of the two"):
        ec.register(one("a"), before="cse", after="dce")
    with pytest.raises(PluginError, match="is no pass: it needs"):
        ec.register(int)
    with pytest.raises(PluginError, match="a pass cannot be called 'Fold Signs'"):
        ec.register(one("Fold Signs"))
    with isolated():
        ec.register(one("a"), before="csee")
        with pytest.raises(PluginError, match="'a' of module 'tests' stands before csee"):
            names()
    ec.register(one("a"), before="b")
    ec.register(one("b"), before="a")
    with pytest.raises(PluginError, match="passes wait for each other: a, b"):
        names()


def test_registering_twice() -> None:
    ec.register(one("a"))
    ec.register(one("a"), before="dce")  # the cell was run again
    with pytest.raises(PluginError, match=r"effcomp.unregister\('b'\) frees the name"):
        ec.register(one("b"), ec.pass_of("b", Other()))
    ec.unregister("a")
    assert "a" not in names()
    with pytest.raises(PluginError, match="nothing called 'a' is registered"):
        ec.unregister("a")


class Other(FoldSigns):
    """-(-x) => x + 0, again."""


def test_disable_and_pipeline_take_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFCOMP_CACHE_DIR", str(tmp_path))
    ran: list[str] = []
    build = compiling.build_plan

    def watched(graph: ec.Graph, target: Target, pipeline: ec.Pipeline, *rest: object) -> object:
        ran.append(pipeline.text)
        return build(graph, target, pipeline, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(compiling, "build_plan", watched)
    ec.register(one("fold-signs"), after="cse")
    ec.register(one("elsewhere"))
    x = torch.randn(4)

    def compiled(**options: object) -> str:
        ran.clear()
        torch._dynamo.reset()
        with torch.no_grad():
            found = torch.compile(lambda x: -x, backend="effcomp", options=options)(x)
        assert torch.equal(found, -x)
        return ran[0] if ran else ""

    assert ",cse,fold-signs,fuse-attention," in compiled()
    assert compiled() == "", "the plan came from the cache"
    assert "fold-signs" not in compiled(disable=["fold-signs"])
    assert compiled(pipeline="canonicalize,elsewhere,fuse-pointwise{target=cpu}").startswith(
        "canonicalize,elsewhere,"
    )
    with pytest.raises(Exception, match="names no pass 'fold-sign'"):
        compiled(disable=["fold-sign"])
    with pytest.raises(ConfigError):
        compiling.pipeline_of(TARGETS["cpu"], Role.INFERENCE, ec.Config(pipeline="absent"))
    ec.unregister("elsewhere")
    assert compiled() != "", "what is registered is part of the key"


def test_options_of_rules_are_in_the_key() -> None:
    ec.register(ec.pass_of("a", FoldSigns()))
    first = registered_text()
    ec.register(ec.pass_of("a", FoldSigns(-0.0)))
    assert registered_text() != first
    assert "tests" in first


def test_the_order_of_registration_is_in_the_key() -> None:
    a, b = one("a"), one("b")
    ec.register(a, b, before="cse")
    first, order = registered_text(), names()
    ec.unregister("a")
    ec.register(a, before="cse")
    assert names() != order
    assert registered_text() != first


@dataclass(frozen=True)
class Measured:
    """Does nothing, by limits that its source does not tell."""

    name: ClassVar[str] = "measured"
    takes: ClassVar[ec.Level | None] = None
    gives: ClassVar[ec.Level | None] = None
    limits: tuple[int, ...] = field(default_factory=lambda: tuple(LIMITS))

    def run(self, graph: ec.Graph, log: ec.Log) -> ec.Graph:
        return graph


LIMITS = [1]


def test_options_of_passes_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    ec.register(Measured)
    first = registered_text()
    assert registered_text() == first
    monkeypatch.setattr(f"{__name__}.LIMITS", [2])
    assert registered_text() != first
