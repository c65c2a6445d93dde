"""Steps are timed where somebody asks: as many times as steps, and the same numbers."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import effcomp
from effcomp.runtime.profiling import Stopwatch, active_times, profiling


def test_every_step_has_a_time() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 8))
    x = torch.randn(32, 64)
    compiled = effcomp.compile(model.eval(), (x,))
    expected = compiled(x)
    start = time.perf_counter()
    seconds = compiled.profile(x)
    took = time.perf_counter() - start
    plan = compiled.plans["cpu"]
    assert len(seconds) == len(plan.steps)
    assert all(one > 0 for one in seconds)
    assert sum(seconds) < took
    assert torch.equal(compiled(x), expected)


def test_nothing_is_timed_unless_asked_for() -> None:
    assert active_times() is None
    with profiling() as times:
        assert active_times() is times
    assert active_times() is None


def test_a_stopwatch_reads_pairs_of_marks() -> None:
    watch = Stopwatch(torch.device("cpu"))
    watch.mark()
    time.sleep(0.01)
    watch.mark()
    watch.mark()
    watch.mark()
    first, second = watch.seconds()
    assert first >= 0.01 > second


@pytest.mark.gpu
def test_a_gpu_times_its_own_work() -> None:
    watch = Stopwatch(torch.device("cuda"))
    a = torch.randn(4096, 4096, device="cuda")
    for size in (4096, 64):
        watch.mark()
        a[:size, :size] @ a[:size, :size]
        watch.mark()
    large, small = watch.seconds()
    assert large > small > 0
