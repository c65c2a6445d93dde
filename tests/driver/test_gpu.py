"""What a user does with a compiled model on a GPU besides calling it. Skipped where there is none.

One small module stands for all models: a product, a norm, an activation, arithmetic on weights.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effcomp.api import recording
from effcomp.errors import DeviceError, FallbackWarning

pytestmark = pytest.mark.gpu
WIDTH = 128
MODES = pytest.mark.parametrize("graphs", ["off", "on"])


class Block(nn.Module):
    """`x + scale * gelu(linear(norm(x)))`, half of it from weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale.exp() * F.gelu(self.linear(self.norm(x)))


def _made(**options: Any) -> tuple[nn.Module, Any]:
    module = Block().cuda()
    return module, torch.compile(module, backend="effcomp", options=options)


def _close(actual: Tensor, expected: Tensor) -> None:
    # TF32 is off unless somebody turns it on.
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@MODES
@torch.no_grad()
def test_layouts_and_alignments(graphs: str) -> None:
    module, compiled = _made(cuda_graphs=graphs)
    whole = torch.randn(65 * WIDTH + 1, device="cuda")
    rows = torch.randn(64, WIDTH, device="cuda")
    for _ in range(3):
        for x in (
            rows,
            torch.randn(WIDTH, 64, device="cuda").t(),
            torch.randn(128, WIDTH, device="cuda")[::2],
            whole[1 : 1 + 64 * WIDTH].view(64, WIDTH),  # four bytes off
            rows[:1].expand(64, WIDTH),
        ):
            _close(compiled(x), module(x))


@MODES
@torch.no_grad()
def test_results_stay_and_weights_change(graphs: str) -> None:
    module, compiled = _made(cuda_graphs=graphs)
    kept: list[tuple[Tensor, Tensor]] = []
    for step in range(6):
        x = torch.randn(64, WIDTH, device="cuda")
        kept.append((compiled(x), module(x)))
        if step == 3:
            module.scale.mul_(0.5)
            module.linear.weight.mul_(2.0)
    for actual, expected in kept:
        _close(actual, expected)


@MODES
@torch.no_grad()
def test_the_callers_stream(graphs: str) -> None:
    """Calls wait for what their own stream computes before, on whichever stream they come."""
    module, compiled = _made(cuda_graphs=graphs)
    x = torch.randn(1 << 14, WIDTH, device="cuda")
    expected = module(x * 2)
    streams = [torch.cuda.Stream(), torch.cuda.Stream(), torch.cuda.default_stream()]
    torch.cuda.synchronize()
    results: list[Tensor] = []
    for index in range(12):
        with torch.cuda.stream(streams[index % 3]):
            torch.cuda._sleep(1_000_000)
            results.append(compiled(x * 2))
    torch.cuda.synchronize()
    for actual in results:
        _close(actual, expected)


@MODES
def test_threads(graphs: str) -> None:
    module, compiled = _made(cuda_graphs=graphs)
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        generator = torch.Generator("cuda").manual_seed(seed)
        try:
            with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(8):
                    x = torch.randn(64, WIDTH, device="cuda", generator=generator)
                    _close(compiled(x), module(x))
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


@MODES
@torch.no_grad()
def test_memory_does_not_grow(graphs: str) -> None:
    _, compiled = _made(cuda_graphs=graphs)
    x = torch.randn(4096, WIDTH, device="cuda")
    held: list[int] = []
    for _ in range(8):
        compiled(x)
        held.append(torch.cuda.memory_allocated())
    assert len(set(held[3:])) == 1, held


@torch.no_grad()
def test_a_graph_of_the_callers_own() -> None:
    """A call may be part of a capture: its memory is then the capture's."""
    module, compiled = _made()
    x = torch.randn(64, WIDTH, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            compiled(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = compiled(x)
    for _ in range(2):
        x.normal_()
        compiled(torch.randn(64, WIDTH, device="cuda"))
        graph.replay()
        _close(out, module(x))


@torch.no_grad()
def test_graphs_are_replayed_where_launches_dominate() -> None:
    """Twenty small products: launching takes longer than computing."""
    module = nn.Sequential(*(Block() for _ in range(20))).cuda()
    with recording() as records:
        compiled = torch.compile(module, backend="effcomp")
        x = torch.randn(8, WIDTH, device="cuda")
        for _ in range(4):
            _close(compiled(x), module(x))
    (record,) = records
    assert record.executable is not None
    assert not record.executable.notes, record.executable.notes
    states = record.executable._graphs._states.values()
    assert [state.captures for state in states] == [1]


@torch.no_grad()
def test_out_of_memory_says_of_what() -> None:
    def table(x: Tensor) -> Tensor:
        return (x[:, None] + x[None, :]).sin()

    compiled = torch.compile(table, backend="effcomp", dynamic=True)
    small = torch.randn(100, device="cuda")
    _close(compiled(small), table(small))
    with pytest.raises(DeviceError, match=r"out of memory in plan .*MiB beside its arguments"):
        compiled(torch.randn(1 << 20, device="cuda"))
    _close(compiled(small), table(small))


@torch.no_grad()
def test_tensors_elsewhere() -> None:
    """A CPU scalar beside CUDA tensors is fine; larger CPU tensors make a graph run eagerly."""
    x = torch.randn(4, device="cuda")

    def scaled(x: Tensor, by: Tensor) -> Tensor:
        return (x * by).relu()

    by = torch.tensor(2.0)
    _close(torch.compile(scaled, backend="effcomp")(x, by), scaled(x, by))

    def both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, y + 1

    with pytest.warns(FallbackWarning, match="a graph runs eagerly"):
        mine, other = torch.compile(both, backend="effcomp")(x, torch.ones(2))
    _close(mine, x + 1)
    assert other.device.type == "cpu"


def test_random_ops_follow_the_seed() -> None:
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)).cuda().train()
    compiled, x = torch.compile(module, backend="effcomp"), torch.ones(4, 8, device="cuda")
    drawn: list[Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(compiled(x).detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@MODES
def test_training_steps_are_eagers(graphs: str) -> None:
    """Ten steps of gradient descent end at the same weights."""
    module, compiled = _made(cuda_graphs=graphs)
    twin = Block().cuda()
    twin.load_state_dict(module.state_dict())
    for trained, called in ((module, compiled), (twin, twin)):
        generator = torch.Generator("cuda").manual_seed(0)
        optimizer = torch.optim.SGD(trained.parameters(), lr=1e-2)
        for _ in range(10):
            x = torch.randn(64, WIDTH, device="cuda", generator=generator)
            called(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        _close(mine, theirs)


@MODES
@torch.no_grad()
def test_results_share_memory_with_each_other_and_not_with_later_calls(graphs: str) -> None:
    def program(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = F.gelu(x) * 2
        return y, y[3], torch.tensor([1.0, 2.0], device="cuda")

    compiled = torch.compile(program, backend="effcomp", options={"cuda_graphs": graphs})
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    inputs = [torch.randn(64, WIDTH, device="cuda") for _ in range(5)]
    for x in inputs:
        whole, row, constant = compiled(x)
        row.zero_()
        constant.zero_()
        kept.append((whole, row, constant))
    for x, (whole, row, constant) in zip(inputs, kept, strict=True):
        expected = F.gelu(x) * 2
        expected[3] = 0
        _close(whole, expected)
        assert row.data_ptr() == whole[3].data_ptr()
        assert not constant.any()
    assert compiled(inputs[0])[2].tolist() == [1.0, 2.0]
