"""Compile workers: kept for the next model; the dead and those of another environment replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from effcomp.runtime import workers
from effcomp.runtime.workers import run_in_workers, start_workers, stop_workers


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    stop_workers()
    yield
    stop_workers()


def slept(times: int) -> int:
    """How many tasks were answered."""
    done: list[int] = []
    run_in_workers("time:sleep", [(0.01,)] * times, lambda: done.append(1))
    return len(done)


def idle() -> set[int]:
    return {worker.process.pid for worker in workers._IDLE}


def test_workers_are_started_ahead_and_stay() -> None:
    start_workers("gc:collect")
    first = idle()
    assert len(first) == 2
    start_workers("gc:collect")
    assert idle() == first
    assert slept(5) == 5
    assert slept(5) == 5
    assert idle() == first


def test_a_dead_worker_is_replaced() -> None:
    start_workers("gc:collect")
    first = idle()
    workers._IDLE[-1].process.kill()
    workers._IDLE[-1].process.wait()
    assert slept(4) == 4
    assert len(idle() - first) == 1


def test_a_worker_that_dies_of_its_task_leaves_it_to_the_caller() -> None:
    done: list[int] = []
    run_in_workers("os:abort", [(), (), ()], lambda: done.append(1))
    assert not done
    assert not idle()


def test_another_environment_has_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slept(4) == 4
    first = idle()
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    assert slept(4) == 4
    assert not idle() & first


def test_idle_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_IDLE_SECONDS", 0.05)
    assert slept(4) == 4
    until = time.monotonic() + 20
    while idle() and time.monotonic() < until:
        time.sleep(0.02)
    assert not idle()


def test_no_interpreter_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", "/no/such/python")
    start_workers("gc:collect")
    assert slept(3) == 0
    assert not idle()
