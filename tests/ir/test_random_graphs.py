"""Any graph prints, parses, verifies and runs; what runs has the types that were declared."""

import torch
from hypothesis import given, settings

from effcomp.ir import parse_graph, print_graph, verify
from effcomp.reference import evaluate
from tests.ir.random_graphs import Program, random_programs


@settings(max_examples=60, deadline=None)
@given(random_programs())
def test_text_round_trip(program: Program) -> None:
    text = print_graph(program.graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    verify(again)


@settings(max_examples=60, deadline=None)
@given(random_programs())
def test_evaluation_gives_the_declared_types(program: Program) -> None:
    verify(program.graph)
    args = program.arguments()
    # `evaluate` itself checks every result against its declared type.
    found = evaluate(program.graph, args)
    assert len(found) == len(program.graph.outputs)
    again = evaluate(program.graph, program.arguments())
    for one, other in zip(found, again, strict=True):
        assert isinstance(one, torch.Tensor)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
