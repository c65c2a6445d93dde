"""Gradients through compiled models are eager's."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from effcomp.api import backend, recording
from effcomp.capture import Role
from tests.models.compiling import Pair, assert_agree, tensors, unlisted
from tests.models.zoo import ZOO, Entry

NAMES = ["flux", "llama", "bert", "vit", "t5", "unet", "mixtral"]


def _loss(entry: Entry, output: Any) -> Tensor:
    """Every element with a weight of its own: a plain mean is blind to what sums to nothing."""
    total = torch.zeros(())
    for tensor in tensors(entry, output):
        weights = torch.linspace(-1, 1, tensor.numel()).sin().reshape(tensor.shape)
        total = total + (tensor.float() * weights).mean()
    return total


def rms(tensor: Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    assert found
    return found


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_eagers(name: str) -> None:
    with Pair.of(ZOO[name]) as pair:
        inputs = pair.inputs()
        _loss(pair.entry, pair.eager(**inputs)).backward()
        _loss(pair.entry, pair.compiled(**inputs)).backward()
        roles = [record.role for record in pair.records]
        assert not unlisted(pair.records), "model them, or list them in unmodelled.md"
    assert roles == [Role.FORWARD, Role.BACKWARD]
    expected, actual = _gradients(pair.eager), _gradients(pair.compiled._orig_mod)
    assert actual.keys() == expected.keys()
    # Some are nothing but rounding: what is added to every key does not move a softmax.
    least = 1e-4 * max(rms(gradient) for gradient in expected.values())
    told = [name for name, gradient in expected.items() if rms(gradient) > least]
    assert len(told) > len(expected) / 2
    assert_agree([actual[n] for n in told], [expected[n] for n in told], torch.float32)
    for name in expected.keys() - told:
        assert rms(actual[name]) <= 2 * least, name


def test_a_backward_pass_of_another_thread_is_recorded() -> None:
    """As on a GPU, whose backward passes run, and are compiled, in a thread of autograd's."""
    with Pair.of(ZOO["bert"]) as pair:
        loss = _loss(pair.entry, pair.compiled(**pair.inputs()))
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
    assert [record.role for record in pair.records] == [Role.FORWARD, Role.BACKWARD]


def test_training_steps_follow_eager() -> None:
    """Weights that an optimizer changes in place reach the compiled model's next call."""
    with Pair.of(ZOO["bert"]) as pair:
        inputs, losses = pair.inputs(), []
        for call in (pair.eager, pair.compiled):
            optimizer = torch.optim.SGD(call.parameters(), lr=0.5)
            steps: list[Tensor] = []
            for _ in range(3):
                loss = _loss(pair.entry, call(**inputs))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                steps.append(loss.detach())
            losses.append(torch.stack(steps))
        assert len(pair.records) == 2, "a training step compiles once"
    assert losses[0].unique().numel() == 3
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)


def test_gradients_reach_inputs() -> None:
    with Pair.of(ZOO["vae"]) as pair:
        found: list[Tensor] = []
        for call in (pair.compiled, pair.eager):
            inputs = pair.inputs()
            inputs["sample"].requires_grad_()
            _loss(pair.entry, call(**inputs)).backward()
            found.append(inputs["sample"].grad)
    assert_agree(found[:1], found[1:], torch.float32)


POINTWISE = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": functional.relu,
    "hardswish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "glu": functional.glu,
}


@pytest.mark.parametrize("name", POINTWISE)
def test_the_gradient_of_an_activation_is_one_group(name: str) -> None:
    torch._dynamo.reset()
    x = torch.randn(4, 8, requires_grad=True)
    with recording() as records:
        (torch.compile(POINTWISE[name], backend=backend)(x) * x.detach()[:, :1]).sum().backward()
    assert [record.role for record in records] == [Role.FORWARD, Role.BACKWARD]
    for record in records:
        ops = {op.name for op in record.captured.graph.ops}
        assert "aten.call" not in ops, "torch's decompositions take these apart"
    backward = records[1].plan
    assert len(backward.steps) == 1
