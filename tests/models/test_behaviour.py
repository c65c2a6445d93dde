"""What a user expects of a compiled model besides its outputs: state, layout, threads, breaks."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import effcomp
from effcomp.api import recording
from effcomp.errors import FallbackWarning
from tests.models.compiling import Pair, assert_agree
from tests.models.zoo import ZOO

F32 = torch.float32


def test_a_cache_advances_in_place() -> None:
    """Three decoding steps: what each wrote into the keys and values is there for the next."""
    with Pair.of(ZOO["llama_decode"]) as pair:
        states = (pair.compiled._orig_mod.cache, pair.eager.cache)
        before = states[0].layers[0].keys.data_ptr()
        for _ in range(3):
            assert_agree(*pair.run(), F32)
            for mine, theirs in zip(*(state.layers for state in states), strict=True):
                assert_agree((mine.keys, mine.values), (theirs.keys, theirs.values), F32)
        assert len(pair.records) == 1
    assert states[0].layers[0].keys.data_ptr() == before


def test_changed_weights_are_seen() -> None:
    """A plan keeps weight arithmetic; it is done anew when a weight changes, in place or not."""
    with Pair.of(ZOO["llama"]) as pair:
        compiled, eager = pair.compiled._orig_mod, pair.eager
        first, _ = pair.run()
        with torch.no_grad():
            for module in (compiled, eager):
                module.model.layers[0].self_attn.q_proj.weight.mul_(1.5)
        second, expected = pair.run()
        assert_agree(second, expected, F32)
        assert not torch.allclose(first[0], second[0])
        for module in (compiled, eager):
            weights = {name: tensor * 0.9 for name, tensor in module.state_dict().items()}
            module.load_state_dict(weights)
        assert_agree(*pair.run(), F32)


def test_results_of_earlier_calls_stay() -> None:
    with Pair.of(ZOO["bert"]) as pair:
        first, _ = pair.run()
        kept = first[0].clone()
        pair.run(size="changed")
        pair.run()
    assert torch.equal(first[0], kept)


def test_a_returned_constant_is_the_callers() -> None:
    """Eager makes it anew at every call: who writes into it changes no later result."""

    def two(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, torch.tensor([[1.0, 2.0]])[0]

    compiled = torch.compile(two, backend=effcomp.api.backend, fullgraph=True)
    with torch.no_grad():
        compiled(torch.ones(2))[1].mul_(5)
        assert torch.equal(compiled(torch.ones(2))[1], torch.tensor([1.0, 2.0]))


def test_tied_weights() -> None:
    def build() -> nn.Module:
        model: Any = ZOO["llama"].build()
        model.lm_head.weight = model.model.embed_tokens.weight
        return model

    eager, model = build(), build()
    inputs = ZOO["llama"].inputs()
    compiled = torch.compile(model, backend="effcomp")
    eager(**inputs).logits.square().mean().backward()
    compiled(**inputs).logits.square().mean().backward()
    shared = model.lm_head.weight
    assert_agree((shared.grad,), (eager.lm_head.weight.grad,), F32)
    with torch.no_grad():
        assert_agree((compiled(**inputs).logits,), (eager(**inputs).logits,), F32)


def test_channels_last_goes_in_and_comes_out() -> None:
    with Pair.of(ZOO["unet"]) as pair:
        for module in (pair.eager, pair.compiled._orig_mod):
            module.to(memory_format=torch.channels_last)
        inputs = pair.inputs()
        inputs["sample"] = inputs["sample"].to(memory_format=torch.channels_last)
        with torch.no_grad():
            actual, expected = pair.compiled(**inputs)[0], pair.eager(**inputs)[0]
    assert_agree((actual,), (expected,), F32)
    assert actual.stride() == expected.stride()


class Breaks(nn.Module):
    """Two graphs with Python between them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(x))
        torch._dynamo.graph_break()
        return torch.relu(self.two(x)) + 1


def test_a_graph_break_compiles_both_sides() -> None:
    module, x = Breaks(), torch.randn(3, 8)
    with recording() as records, torch.no_grad():
        actual = torch.compile(module, backend="effcomp")(x)
        assert_agree((actual,), (module(x),), F32)
    assert len(records) == 2
    explanation = effcomp.explain(module, x)
    assert len(explanation.breaks) == 1
    assert "break: " in str(explanation)


class Assorted(nn.Module):
    """Results of every kind: a view of an input, an input, None, a number, a tensor twice."""

    def forward(self, x: Tensor) -> tuple[Any, ...]:
        y = x * 2 + 1
        return x.t(), x, None, x.shape[0] + 1, y, y, y[:, :2], torch.arange(x.shape[1])


def test_results_of_every_kind() -> None:
    module, x = Assorted(), torch.randn(3, 4)
    compiled = torch.compile(module, backend="effcomp", dynamic=True)
    for sample in (x, torch.randn(5, 7)):
        for actual, expected in zip(compiled(sample), module(sample), strict=True):
            if isinstance(expected, Tensor):
                assert actual.stride() == expected.stride()
                assert torch.equal(actual, expected)
            else:
                assert actual == expected


def test_inputs_mutate_in_place() -> None:
    def step(state: Tensor, x: Tensor) -> Tensor:
        state.mul_(0.5).add_(x)
        state[:, 0] = 1
        return state.sum(-1)

    compiled, x = torch.compile(step, backend="effcomp"), torch.randn(3, 8)
    mine = torch.randn(3, 8)
    theirs = mine.clone()
    for _ in range(2):
        assert_agree((compiled(mine, x),), (step(theirs, x),), F32)
        assert_agree((mine,), (theirs,), F32)


def test_threads_share_a_compiled_model() -> None:
    module = ZOO["vit"].build()
    compiled = torch.compile(module, backend="effcomp")
    requests = [ZOO["vit"].inputs(batch=batch) for batch in (2, 2, 2, 2)]
    for number, request in enumerate(requests):
        request["pixel_values"] = request["pixel_values"] * (1 + number)
    results: dict[int, list[Tensor]] = {}
    if torch.__version__ < "2.13":
        # Compiling beside threads that run crashes Dynamo 2.11, with torch's own backends as well.
        with torch.no_grad():
            compiled(**requests[0])

    def work(number: int) -> None:
        with torch.no_grad():
            results[number] = [compiled(**requests[number]).logits for _ in range(5)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        for number, request in enumerate(requests):
            expected = module(**request).logits
            for actual in results[number]:
                assert_agree((actual,), (expected,), F32)


def test_random_ops_follow_the_seed() -> None:
    """A dropout in training draws from torch's generator: one seed, one result."""
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)).train()
    compiled, x = torch.compile(module, backend="effcomp"), torch.ones(4, 8)
    drawn: list[Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(compiled(x).detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert 0.3 < (drawn[0] == 0).float().mean() < 0.7


@torch.library.custom_op("effcomp_tests::attend", mutates_args=())
def attend(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Like attention on a GPU: a result, and random numbers' state for the backward pass."""
    return x.sin(), torch.tensor([3, 5], dtype=torch.uint64), torch.tensor(7, dtype=torch.uint64)


@attend.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state = [x.new_empty(shape, dtype=torch.uint64) for shape in ((2,), ())]
    return torch.empty_like(x), state[0], state[1]


@torch.library.custom_op("effcomp_tests::attend_backward", mutates_args=())
def attend_backward(grad: Tensor, x: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    assert (seed.tolist(), offset.item()) == ([3, 5], 7)
    return grad * x.cos()


@attend_backward.register_fake
def _(grad: Tensor, x: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    return torch.empty_like(grad)


attend.register_autograd(
    lambda ctx, grad, *_: attend_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs, *output[1:]),
)


@pytest.mark.parametrize("target", ["cpu", "cuda:90"])
def test_the_state_of_random_numbers_is_handed_on(target: str) -> None:
    def function(x: Tensor) -> Tensor:
        return (attend(x * 2)[0] + 1).square().sum()

    options = {"target": target, "cuda_graphs": "off"}
    compiled = torch.compile(function, backend="effcomp", options=options)
    mine = torch.randn(4, 8, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        compiled(mine).backward()
    function(theirs).backward()
    assert_agree((mine.grad,), (theirs.grad,), F32)


def test_explain_says_what_was_done() -> None:
    entry = ZOO["llama"]
    with torch.no_grad():
        explanation = effcomp.explain(entry.build(), **entry.inputs())
    (graph,) = explanation.graphs
    assert graph.target == "cpu"
    assert graph.modelled > 20
    assert graph.groups
    assert sum(group.flops for group in graph.groups) > 0
    text = str(explanation)
    for word in ("1 graph(s), 0 graph break(s)", "passes:", "steps:", "modeling_llama.py:"):
        assert word in text


def test_explain_counts_a_graph_that_runs_eagerly() -> None:
    def branch(x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    with torch.no_grad():
        explanation = effcomp.explain(branch, torch.ones(4))
    assert explanation.graphs == ()
    (reason,) = explanation.fallbacks
    assert "runs eagerly" in reason
    assert "1 fallback(s)" in str(explanation)


def test_complex_numbers_run_as_the_calls_they_are() -> None:
    def turn(z: Tensor) -> Tensor:
        return torch.view_as_real(z * (1 + 2j) * 2.0)

    z = torch.randn(4, dtype=torch.complex64)
    with torch.no_grad():
        assert_agree(torch.compile(turn, backend="effcomp")(z), turn(z), F32)
