"""The Pass protocol, and the pipeline that runs, verifies and times passes."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from effcomp.errors import ConfigError, PassError, VerifyError, nearest
from effcomp.ir import Graph, Level, verify
from effcomp.rewrite.log import Applied, Log, NearMiss, Refusal, plain_name
from effcomp.rewrite.pass_text import parse_passes, spec_text
from effcomp.rewrite.scope import Scope


class Pass(Protocol):
    """A frozen dataclass from Graph to Graph; its fields are its options.

    `run` returns the graph it was given when nothing changed. `takes` and `gives` are the levels
    before and after; None means any level, which the pass keeps.
    """

    name: ClassVar[str]
    takes: ClassVar[Level | None]
    gives: ClassVar[Level | None]

    def run(self, graph: Graph, log: Log) -> Graph: ...


@dataclass(frozen=True, slots=True)
class Scoped:
    """A pass that starts no rewrite outside the modules that `only` names.

    It cannot promise a new level: what it did not look at stays at the one it took.
    """

    inner: Pass
    only: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def takes(self) -> Level | None:
        return self.inner.takes

    @property
    def gives(self) -> Level | None:
        return self.inner.takes

    def run(self, graph: Graph, log: Log) -> Graph:
        """Run the pass. Raises PassError where it changes the program without asking the scope."""
        within = replace(log, scope=Scope(self.only), asked=False)
        after = self.inner.run(graph, within)
        if after is not graph and not within.asked:
            raise PassError(
                f"{self.name} looks at the whole program and cannot be limited to {within.scope}; "
                "leave `only` out, or let the pass ask log.sees(op) of the ops it changes"
            )
        return after


@dataclass(frozen=True, slots=True)
class Stage:
    """The program after one pass.

    `counts`: times each rule applied; `matches` says where too; `misses` are the nearest misses of
    the rules that were traced, `tried` the names of all there were then.
    """

    spec: str
    graph: Graph
    changed: bool
    seconds: float
    counts: Mapping[str, int]
    refusals: tuple[Refusal, ...]
    matches: tuple[Applied, ...] = ()
    misses: tuple[NearMiss, ...] = ()
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Run:
    """Every stage of one run of a pipeline; the first is the program that came in."""

    stages: tuple[Stage, ...]

    @property
    def graph(self) -> Graph:
        """The program that came out."""
        return self.stages[-1].graph

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def counts(self) -> Mapping[str, int]:
        """Times each rule applied, over all stages."""
        total: dict[str, int] = {}
        for stage in self.stages:
            for rule, count in stage.counts.items():
                total[rule] = total.get(rule, 0) + count
        return total


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Passes in order, and the level of the program they start from.

    `trace` names rules whose nearest misses the stages then tell.
    """

    passes: Sequence[Pass | Scoped]
    level: Level = Level.TENSOR
    trace: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The pipeline as `parse_pipeline` reads it."""
        return ",".join(map(_text, self.passes))

    def without(self, names: Collection[str]) -> "Pipeline":
        """The pipeline less the passes of these names."""
        return replace(self, passes=tuple(p for p in self.passes if p.name not in names))

    def run(
        self,
        graph: Graph,
        on_stage: Callable[[Stage], None] | None = None,
        *,
        verify_each: bool = True,
    ) -> Run:
        """Run every pass, verifying between. Raises PassError naming the pass at fault.

        Without `verify_each` only the programs that come in and go out are verified.
        """
        verify(graph, self.level)
        level, name = self.level, graph.name
        stages = [Stage("captured", graph, False, 0.0, {}, ())]
        for index, one in enumerate(self.passes):
            if one.takes is not None and one.takes is not level:
                if verify_each:
                    self._check(graph, one.takes, f"cannot run {one.name}", name, index)
                level = one.takes
            stage = self._run_one(graph, name, index)
            moved = stage.changed or one.gives not in (None, level)
            level = one.gives or level
            if moved if verify_each else one is self.passes[-1]:
                self._check(stage.graph, level, f"{one.name} broke the program", name, index)
            stages.append(stage)
            graph = stage.graph
            if on_stage is not None:
                on_stage(stage)
        if self.trace:
            self._check_traced(stages)
        return Run(tuple(stages))

    def _check_traced(self, stages: Sequence[Stage]) -> None:
        """Refuse to trace what no pass tried."""
        tried = {
            rule
            for s in stages
            for rule in (*s.tried, *s.counts, *(refusal.rule for refusal in s.refusals))
        }
        for name in self.trace:
            if plain_name(name) not in map(plain_name, tried):
                raise ConfigError(
                    f"no pass here has a rule {name!r} to trace; {nearest(name, tried)}"
                )

    def _run_one(self, graph: Graph, name: str, index: int) -> Stage:
        one, log = self.passes[index], Log(trace=self.trace)
        start = time.perf_counter()
        try:
            after = one.run(graph, log)
        except Exception as error:
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            message = f"{one.name} failed: {type(error).__name__}: {error}{notes}"
            raise self._failure(message, name, index) from error
        return Stage(
            spec=_text(one),
            graph=after,
            changed=after is not graph,
            seconds=time.perf_counter() - start,
            counts=log.counts,
            refusals=log.refusals,
            matches=log.matches,
            misses=log.misses,
            tried=frozenset(log.tried),
        )

    def _check(self, graph: Graph, level: Level, what: str, name: str, index: int) -> None:
        try:
            verify(graph, level)
        except VerifyError as error:
            raise self._failure(f"{what}: {error}", name, index) from error

    def _failure(self, message: str, name: str, index: int) -> PassError:
        """Says how to see it again; `name` is that of the graph the pipeline was given."""
        passes = ",".join(map(_text, self.passes[: index + 1]))
        return PassError(f"{message}\nin @{name}; reproduce with the pipeline '{passes}'", passes)


def parse_pipeline(
    text: str,
    registry: Mapping[str, type[Pass]],
    level: Level = Level.TENSOR,
    shared: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Read `canonicalize,chunk{min_rows=5}`. Raises ConfigError naming what is not known.

    `shared` are options for every pass that has them and whose text does not set them. Every pass
    takes `only="blocks.*"` besides its own options.
    """
    parsed = parse_passes(text, registry, shared)
    return Pipeline(tuple(Scoped(one, only) if only else one for one, only in parsed), level)


def _text(one: Pass | Scoped) -> str:
    return spec_text(one.inner, one.only) if isinstance(one, Scoped) else spec_text(one)
