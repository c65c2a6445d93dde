"""Random typed graphs, for everybody's property tests.

@given(random_programs())
def test_something(program: Program) -> None:
before = evaluate(program.graph, program.arguments())
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from effcomp.ir import Graph, ops, print_graph
from effcomp.ir.types import TensorType
from effcomp.testing.inputs import random_arguments
from tests.ir.growing import Grower, some_dims
from tests.ir.random_idioms import IDIOMS
from tests.ir.random_steps import STEPS

ALL_STEPS = {**STEPS, **IDIOMS}
DTYPES = ("f32", "bf16", "f64", "i64", "bool", "f16", "i32")


@dataclass(frozen=True)
class Program:
    """A graph, and values for its size names."""

    graph: Graph
    sizes: dict[str, int]
    seed: int = 0

    def arguments(self) -> list[torch.Tensor | int]:
        """Arguments in the layouts that the params state; the same ones at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return random_arguments(self.graph, self.sizes)

    def __repr__(self) -> str:
        return f"Program(sizes={self.sizes}, seed={self.seed})\n{print_graph(self.graph)}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows a failing example: as text that `parse_graph` reads."""
        del cycle
        printer.text(repr(self))


@st.composite
def random_programs(
    draw: Any,
    *,
    dtypes: Sequence[str] = DTYPES,
    most_steps: int = 10,
    symbolic: bool = True,
    writes: bool = True,
    steps: Sequence[str] = tuple(ALL_STEPS),
) -> Program:
    """A verified graph with one to five outputs, over params in any dense or gapped layout.

    `symbolic` allows size names, `writes` a state.write at the end; `steps` names what it may be
    made of (`STEPS` and `IDIOMS`).
    """
    names = draw(st.lists(st.sampled_from(("s0", "s1")), unique=True)) if symbolic else []
    sizes = {name: draw(st.integers(2, 5)) for name in names}
    grower = Grower(draw, dtypes, sizes, draw(some_dims(names)))
    main = draw(st.sampled_from([d for d in dtypes if d not in ("bool", "i64", "i32")] or dtypes))
    grower.param(TensorType(main, grower.shape(1)))
    for _ in range(draw(st.integers(0, 3))):
        dtype = main if grower.chance(2) else draw(st.sampled_from(dtypes))
        grower.param(TensorType(dtype, grower.shape()))
    for _ in range(draw(st.integers(1, most_steps))):
        ALL_STEPS[draw(st.sampled_from(steps))](grower)
    read = {v for op in grower.ops for v in op.operands}
    unread = [v for v in grower.pool if v not in read and v not in grower.params][-4:]
    again = draw(st.lists(st.sampled_from(grower.pool), max_size=1))
    outputs = [*(unread or grower.pool[-1:]), *again]
    if writes and grower.chance(4):
        _write(grower)
    return Program(grower.finish(outputs), sizes, draw(st.integers(0, 99)))


def _write(grower: Grower) -> None:
    """Overwrite one of the inputs, as a model with a cache does."""
    target = grower.choose([p for p in grower.params if isinstance(p.type, TensorType)])
    source = grower.pick(lambda v: v.type == target.type)
    if source is not None and not target.weight:
        grower.ops.append(ops.state.write.build(target, source))
