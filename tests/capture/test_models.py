"""Every model of the zoo: captured, well-formed, the same through text, and equal to eager."""

from __future__ import annotations

import pytest
import torch

from effcomp.capture import Role
from tests.capture.recording import Recorder, same, unmodelled
from tests.models.zoo import ZOO

MOE = {"aten.histc.default", "transformers.grouped_mm_fallback.default"}
ALLOWED = {"qwen_moe": MOE, "mixtral": MOE}


SLOW = {"mamba", "unet", "t5"}  # most of it Dynamo's own tracing
NAMES = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in ZOO]


@pytest.mark.parametrize("name", NAMES)
def test_inference(name: str) -> None:
    entry, recorder = ZOO[name], Recorder()
    compiled = torch.compile(entry.build(), backend=recorder.backend)
    with torch.no_grad():
        found = entry.output(compiled(**entry.inputs()))
        expected = entry.output(entry.build()(**entry.inputs()))
    same(found, expected)
    assert set(unmodelled(recorder.graph())) == ALLOWED.get(name, set())
    assert recorder.graph().name, "graphs are named"


@pytest.mark.parametrize("name", ["llama", pytest.param("flux", marks=pytest.mark.slow)])
def test_a_changed_size_is_one_more_graph(name: str) -> None:
    entry, recorder = ZOO[name], Recorder()
    compiled = torch.compile(entry.build(), backend=recorder.backend)
    with torch.no_grad():
        for size in ("default", "changed"):
            inputs = entry.inputs(size=size)
            same(entry.output(compiled(**inputs)), entry.output(entry.build()(**inputs)))
    assert [unmodelled(graph) for graph in recorder.graphs] == [[], []]


def test_training() -> None:
    entry, recorder = ZOO["llama"], Recorder()
    model, eager = entry.build(), entry.build()
    compiled = torch.compile(model, backend=recorder.backend)
    entry.output(compiled(**entry.inputs())).square().mean().backward()
    entry.output(eager(**entry.inputs())).square().mean().backward()
    for one, other in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert [role for _, role in recorder.captured] == [Role.FORWARD, Role.BACKWARD]
