"""CUDA graphs: when to capture, what is copied, what is refused. A fake stands in for the GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from effcomp.errors import KernelError
from effcomp.plan.schema import (
    AtenCall,
    BufferArg,
    CallPlace,
    CallStep,
    ConstArg,
    Cost,
    InputPlace,
    OutputPlace,
    OutputRef,
    Plan,
    ViewPlace,
)
from effcomp.runtime import load
from effcomp.runtime.graphs import CudaCapture, Graphs, refusal, why_not_replay
from effcomp.runtime.notes import Notes
from effcomp.runtime.program import analyze
from tests.runtime.plans import add_plan, buffer, call, plan, port, region_plan

CPU = torch.device("cpu")


class FakeRecording:
    """Replays by running again and putting the numbers where the first run put them."""

    def __init__(self, run: Callable[[], list]) -> None:
        self.run, self.results, self.replays = run, run(), 0
        self._own = list(self.results)

    def replay(self) -> None:
        self.replays += 1
        for mine, new in zip(self._own, self.run(), strict=True):
            if isinstance(mine, torch.Tensor) and mine is not new:
                mine.copy_(new)


class FakeCapture:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.recordings: list[FakeRecording] = []
        self.error: str | None = None
        self.then = ""
        self.mutated: list[torch.Tensor] = []

    def follow_stream(self) -> None:
        pass

    def capturing(self) -> bool:
        return False

    def capture(self, run: Callable[[], list]) -> FakeRecording:
        if self.error:
            try:
                raise KernelError(self.error)
            finally:
                raise RuntimeError(self.then)
        before = [tensor.clone() for tensor in self.mutated]
        self.recordings.append(FakeRecording(run))
        for tensor, value in zip(self.mutated, before, strict=True):
            tensor.copy_(value)  # capturing runs nothing
        return self.recordings[-1]


def linear_plan(**rest) -> Plan:
    """(x @ w, x, rows * 2); x is [s0, 4] and copied, w a weight and used where it lies."""
    return plan(
        target="cuda:90",
        ports=[port("x", "s0", 4), port("w", 4, 3, weight=True)],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0", 4),
            buffer(InputPlace(1), 4, 3),
            buffer(OutputPlace(), "s0", 3),
        ],
        steps=[call("mm.default", 0, 1, to=[2], out="out")],
        outputs=[2, 0, 2, OutputRef(size="s0 * 2")],
        **rest,
    )


def graphed(p: Plan, mode="on"):
    run = load(p, CPU)
    fake = FakeCapture()
    run._graphs = Graphs(run._program, mode, run._machine.notes, fake)
    return run, fake


def test_the_second_call_is_captured_and_results_are_the_callers() -> None:
    run, fake = graphed(linear_plan())
    w = torch.randn(4, 3)
    inputs = [torch.randn(2, 4) for _ in range(5)]
    results = [run([x, w]) for x in inputs]
    assert [len(fake.recordings), fake.recordings[0].replays] == [1, 4]
    for x, (out, same, again, rows) in zip(inputs, results, strict=True):
        torch.testing.assert_close(out, x @ w)
        assert same is x
        assert again is out
        assert rows == 4
    assert run.last_sizes == {"s0": 2}
    assert run.notes == ()


def test_results_that_share_memory_share_their_copies() -> None:
    """(x @ w, its first column, the upper half as integers, the last row of x), for x [4, 4]."""
    shared = plan(
        target="cuda:90",
        ports=[port("x", 4, 4), port("w", 4, 3, weight=True)],
        buffers=[
            buffer(InputPlace(0), 4, 4),
            buffer(InputPlace(1), 4, 3),
            buffer(OutputPlace(), 4, 3),
            buffer(ViewPlace(2), 4, strides=(3,)),
            buffer(ViewPlace(2, 3), 2, 3, dtype="i32"),
            buffer(ViewPlace(0, 12), 4),
        ],
        steps=[call("mm.default", 0, 1, to=[2], out="out")],
        outputs=[3, 2, 4, 5],
    )
    run, fake = graphed(shared)
    w, held = torch.randn(4, 3), []
    for _ in range(4):
        x = torch.randn(5, 4)[1:]
        column, out, bits, row = run([x, w])
        held.append((out, x @ w))
        assert torch.equal(column, out[:, 0])
        assert torch.equal(bits, out.view(torch.int32)[1:3])
        assert len({t.untyped_storage().data_ptr() for t in (column, out, bits)}) == 1
        assert row.data_ptr() == x[3].data_ptr(), "a view of the caller's own tensor"
        column.add_(nn.Parameter(torch.zeros(4)))
    assert fake.recordings[0].replays == 3
    for out, want in held:
        torch.testing.assert_close(out, want)


def test_other_sizes_are_captured_for_themselves() -> None:
    run, fake = graphed(linear_plan())
    w = torch.randn(4, 3)
    for rows in (2, 3, 2, 3, 2):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(run([x, w])[0], x @ w)
    assert len(fake.recordings) == 2


def test_moved_weights_are_captured_again_but_not_for_ever() -> None:
    run, fake = graphed(linear_plan())
    x = torch.randn(2, 4)
    weights = [torch.randn(4, 3) for _ in range(8)]
    for w in weights:
        torch.testing.assert_close(run([x, w])[0], x @ w)
    assert len(fake.recordings) == 4
    assert run.notes == ("no CUDA graph: weights or mutated arguments keep changing address",)


def test_expanded_arguments() -> None:
    expanded = plan(
        target="cuda:90",
        ports=[port("x", 3, 4, strides=(0, 1))],
        buffers=[buffer(InputPlace(0), 3, 4, strides=(0, 1)), buffer(CallPlace(0), 3, 4)],
        steps=[call("neg.default", 0, to=[1])],
        outputs=[1],
    )
    run, fake = graphed(expanded)
    for _ in range(3):
        x = torch.randn(4).expand(3, 4)
        torch.testing.assert_close(run([x])[0], -x)
    assert fake.recordings[0].replays == 2


def test_a_capture_that_fails_is_noted_once() -> None:
    run, fake = graphed(linear_plan())
    fake.error = "operation not permitted when stream is capturing\nmore"
    fake.then = "operation failed due to a previous error during capture"
    w, x = torch.randn(4, 3), torch.randn(2, 4)
    for _ in range(4):
        torch.testing.assert_close(run([x, w])[0], x @ w)
    assert run.notes == (
        "no CUDA graph: capturing failed: operation not permitted when stream is capturing",
    )


def test_release_forgets_recordings() -> None:
    run, fake = graphed(linear_plan())
    w, x = torch.randn(4, 3), torch.randn(2, 4)
    for _ in range(2):
        run([x, w])
    run.release()
    for _ in range(2):
        torch.testing.assert_close(run([x, w])[0], x @ w)
    assert len(fake.recordings) == 2


def test_mutated_arguments_are_used_where_they_lie() -> None:
    counter = plan(
        target="cuda:90",
        ports=[port("state", 3, mutated=True), port("x", 3)],
        buffers=[buffer(InputPlace(0), 3), buffer(InputPlace(1), 3)],
        steps=[call("add_.Tensor", 0, 1, to=[0])],
        outputs=[0],
    )
    run, fake = graphed(counter)
    state = torch.zeros(3)
    fake.mutated.append(state)
    for _ in range(3):
        (out,) = run([state, torch.ones(3)])
        assert out is state
    assert state.tolist() == [3, 3, 3]
    assert len(fake.recordings) == 1


def one_call(step: CallStep, dtype: str = "f32") -> Plan:
    return plan(
        target="cuda:90",
        ports=[port("x", 4), port("i", 4, dtype=dtype)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(InputPlace(1), 4, dtype=dtype),
            buffer(CallPlace(0), 4),
        ],
        steps=[step],
        outputs=[2],
    )


def attention(dropout: float) -> CallStep:
    args = (*(BufferArg(0) for _ in range(3)), ConstArg(None), ConstArg(dropout))
    return CallStep(AtenCall("aten.scaled_dot_product_attention.default", args, (2,)))


@pytest.mark.parametrize(
    ("p", "reason"),
    [
        (linear_plan(), None),
        (add_plan(), None),
        (region_plan(), "the plan runs regions on the CPU"),
        (one_call(call("rand_like.default", 0, to=[2])), "aten.rand_like.default draws random"),
        (one_call(call("masked_select.default", 0, 1, to=[2]), "bool"), "dynamic_output_shape"),
        (one_call(call("index.Tensor", 0, 1, to=[2]), "i64"), None),
        (one_call(call("index.Tensor", 0, 1, to=[2]), "bool"), "may index by a mask"),
        (one_call(attention(0.0)), None),
        (one_call(attention(0.1)), "draws random numbers"),
    ],
)
def test_refusals(p: Plan, reason: str | None) -> None:
    found = refusal(analyze(p))
    assert found is None if reason is None else reason in (found or "")


def test_a_refused_plan_runs_step_by_step_and_says_so() -> None:
    run, fake = graphed(one_call(call("rand_like.default", 0, to=[2])))
    for _ in range(3):
        run([torch.ones(4), torch.ones(4)])
    assert not fake.recordings
    assert run.notes == ("no CUDA graph: aten.rand_like.default draws random numbers",)


def costly(launches: int, bytes: int, flops: int = 0) -> Plan:
    one = linear_plan()
    step, cost = one.steps[0], Cost("mm", ("tensor.matmul",), bytes, flops)
    return linear_plan_with((step,) * launches, (cost,) * launches)


def linear_plan_with(steps, costs) -> Plan:
    from dataclasses import replace

    return replace(linear_plan(), steps=steps, costs=costs)


def test_launches_have_to_dominate() -> None:
    sizes = {"s0": 16}
    assert why_not_replay(costly(100, 4096), sizes) is None
    assert why_not_replay(costly(100, 50 << 20), sizes) is None, "gaps between kernels show"
    assert "the GPU is busy for" in (why_not_replay(costly(100, 250 << 20), sizes) or "")
    assert "the GPU is busy for" in (why_not_replay(costly(100, 1 << 30), sizes) or "")
    assert "the GPU is busy for" in (why_not_replay(costly(100, 0, 6 * 10**10), sizes) or "")
    assert "copying would take" in (why_not_replay(costly(2, 0), sizes) or "")
    assert why_not_replay(costly(100, 4096), {"s0": 10**9}) is not None, "copies cost"
    assert why_not_replay(linear_plan(), sizes) == "the plan does not say what its steps cost"


def test_auto_asks_for_each_set_of_sizes() -> None:
    notes = Notes()
    run = load(costly(100, 4096), CPU)
    fake = FakeCapture()
    run._graphs = Graphs(run._program, "auto", notes, fake)
    w = torch.randn(4, 3)
    for _ in range(3):
        run([torch.randn(2, 4), w])
    assert len(fake.recordings) == 1
    assert notes.lines() == ()


class FakeCuda:
    """torch.cuda as far as capturing goes; ending a spoilt capture fails and keeps its stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.pools = "the caller's", 0
        for name in ("graph_pool_handle", "Stream", "current_stream", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
        monkeypatch.setattr(torch.cuda, "stream", self.on)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)

    def graph_pool_handle(self) -> int:
        self.pools += 1
        return self.pools

    def Stream(self, _: torch.device) -> str:
        return "the capture's"

    def current_stream(self, _: torch.device) -> str:
        return self.stream

    def CUDAGraph(self) -> None:
        return None

    @contextlib.contextmanager
    def on(self, stream: str) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @contextlib.contextmanager
    def graph(self, _: None, stream: str, **rest: object) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        except KernelError:
            raise RuntimeError("the capture was spoilt") from None
        self.stream = before


def test_pools_are_left_when_spoilt_or_without_graphs(monkeypatch) -> None:
    cuda = FakeCuda(monkeypatch)
    capture = CudaCapture(torch.device("cuda", 0))
    kept = [capture.capture(list)]
    assert cuda.stream == "the caller's"
    first = capture.pool

    kept += [capture.capture(list), capture.capture(list)]
    assert capture.pool == first
    kept.clear()
    kept.append(capture.capture(list))
    second = capture.pool
    assert second != first, "a pool without graphs is not captured into again"

    def fail() -> list:
        raise KernelError("kernel add did not launch: misaligned")

    with pytest.raises(RuntimeError, match="spoilt"):
        capture.capture(fail)
    assert cuda.stream == "the caller's"
    assert capture.pool not in (first, second)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    cuda = torch.device("cuda")
    w = torch.ones(4, 3, device=cuda)
    for p in (add_plan(), linear_plan()):
        run = load(p, cuda, cuda_graphs="on")
        kept = []
        for seed in range(10):
            generator = torch.Generator(cuda).manual_seed(seed)
            if p.name == "add_twice":
                x, y = torch.randn(2, 512, device=cuda, generator=generator)
                kept.append((run([x, y])[0], x + y + y))
            else:
                x = torch.randn(16, 4, device=cuda, generator=generator)
                kept.append((run([x, w])[0], x @ w))
        for out, want in kept:
            torch.testing.assert_close(out, want, rtol=1e-3, atol=1e-3)
        assert not [note for note in run.notes if "CUDA graph" in note]
        assert next(iter(run._graphs._states.values())).captured is not None


@pytest.mark.gpu
def test_capturing_goes_on_when_earlier_graphs_are_gone() -> None:
    """Results that outlive all graphs keep memory of theirs, and the pool's number, in use."""
    cuda = torch.device("cuda")
    capture, kept = CudaCapture(cuda), []
    for _ in range(3):
        recording = capture.capture(lambda: [torch.ones(1 << 20, device=cuda)])
        recording.replay()
        kept += recording.results
        del recording
    for tensor in kept:
        assert tensor.numel() == 1 << 20


@pytest.mark.gpu
def test_graphs_of_two_executables_share_a_pool() -> None:
    cuda = torch.device("cuda")
    first = load(add_plan(), cuda, cuda_graphs="on")
    second = load(add_plan(), cuda, cuda_graphs="on")
    side = torch.cuda.Stream()
    for size in (512, 4096, 512):
        x = torch.randn(size, device=cuda)
        for _ in range(4):
            (a,) = first([x, x])
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                (b,) = second([a, x])
            torch.cuda.current_stream().wait_stream(side)
            torch.testing.assert_close(a, x * 3)
            torch.testing.assert_close(b, x * 5)
