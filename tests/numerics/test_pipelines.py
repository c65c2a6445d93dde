"""Random programs through every pass and every target's pipeline: the numbers stay."""

import pytest
from hypothesis import given, settings

from effcomp.ir import Level, verify
from effcomp.passes.pipelines import pipeline_for
from effcomp.target import TARGETS
from effcomp.testing.numbers import check_pass
from tests.ir.random_graphs import Program, random_programs


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("target", ["cuda:90", "cpu"])
def test_pipelines_keep_the_numbers(target: str, training: bool) -> None:
    pipeline = pipeline_for(TARGETS[target], training=training, horizontal_rows=64)

    @settings(max_examples=20, deadline=None)
    @given(random_programs())
    def check(program: Program) -> None:
        after = check_pass(pipeline, program.graph, program.arguments())
        verify(after, Level.KERNEL)

    check()
