"""Compiling in parallel: worker processes fill the compilers' disk caches, with a progress bar.

Workers stay for a while: a model of several graphs, or another model, finds them ready.
"""

import atexit
import contextlib
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from effcomp.runtime.worker import CLOSED, read_message, write_message

__all__ = ["progress_bar", "run_in_workers", "start_workers", "stop_workers"]

_MOST = 16


def run_in_workers(
    function: str, tasks: Sequence[tuple[Any, ...]], done: Callable[[], None] = lambda: None
) -> None:
    """Call `function` ("module:name") on every task in worker processes; `done` after each.

    With one task or one core this does nothing: the caller compiles itself, and has to anyway,
    where a worker failed or was killed.
    """
    count = min(len(tasks), _cores(), _MOST)
    if count < 2:
        return
    waiting: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    feeders = [
        threading.Thread(target=_feed, args=(function, waiting, done), daemon=True)
        for _ in range(count)
    ]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()


def start_workers(function: str, count: int = _MOST) -> None:
    """Have workers ready by the time they are wanted; each calls `function` meanwhile."""
    count = min(count, _cores(), _MOST)
    if count < 2:
        return
    with _LOCK:
        missing = count - len(_IDLE)
    for _ in range(missing):
        if (worker := _Worker.start()) is None:
            return
        if worker.send(function, ()):
            worker.answers_due += 1
            _give_back(worker)


class _Worker:
    """A process that compiles, and the environment it was started in."""

    def __init__(self, process: "subprocess.Popen[bytes]", environment: dict[str, str]) -> None:
        self.process, self.environment = process, environment
        self.answers_due = 0

    @classmethod
    def start(cls) -> "_Worker | None":
        """A new worker; None where none can be started (in an embedding program, say)."""
        environment = dict(os.environ)
        root = str(pathlib.Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "effcomp.runtime.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, "PYTHONPATH": path},
            )
        except OSError:
            return None
        return cls(process, environment)

    def send(self, function: str, task: tuple[Any, ...]) -> bool:
        """Whether the worker took the task."""
        try:
            write_message(self.process.stdin, (function, task))  # pyright: ignore[reportArgumentType]
        except OSError:
            self.close()
            return False
        return True

    def run(self, function: str, task: tuple[Any, ...]) -> bool:
        """Whether the worker lived to answer."""
        if not self.send(function, task):
            return False
        for _ in range(self.answers_due + 1):
            if read_message(self.process.stdout) is CLOSED:  # pyright: ignore[reportArgumentType]
                self.close()
                return False
        self.answers_due = 0
        return True

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess]
        self.process.kill()
        self.process.wait()


_LOCK = threading.Lock()
_IDLE: list[_Worker] = []
_IDLE_SECONDS = 30.0
_timer: threading.Timer | None = None


def _take() -> _Worker | None:
    """An idle worker of this environment, else a new one."""
    while True:
        with _LOCK:
            worker = _IDLE.pop() if _IDLE else None
        if worker is None:
            return _Worker.start()
        if worker.environment == dict(os.environ) and worker.process.poll() is None:
            return worker
        worker.close()


def _give_back(worker: _Worker) -> None:
    global _timer  # noqa: PLW0603 - one timer for all of them, restarted by each use
    with _LOCK:
        _IDLE.append(worker)
        if _timer is not None:
            _timer.cancel()
        _timer = threading.Timer(_IDLE_SECONDS, stop_workers)
        _timer.daemon = True
        _timer.start()


def stop_workers() -> None:
    """End the idle workers."""
    with _LOCK:
        workers = _IDLE.copy()
        _IDLE.clear()
    for worker in workers:
        worker.close()


def _forget_workers() -> None:
    """In a forked child: it must not talk to its parent's workers."""
    global _LOCK  # noqa: PLW0603 - the parent's may be held by a thread that the child lacks
    _LOCK = threading.Lock()
    _IDLE.clear()


atexit.register(stop_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def _feed(
    function: str, waiting: "queue.SimpleQueue[tuple[Any, ...]]", done: Callable[[], None]
) -> None:
    """Hand one worker tasks until none is left; what a dead one leaves undone the caller does."""
    if (worker := _take()) is None:
        return
    while True:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return _give_back(worker)
        if not worker.run(function, task):
            return None
        done()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def progress_bar(title: str, total: int, show: bool | None) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr; the value counts one more as done. None: only on a terminal."""
    if total == 0 or show is False or (show is None and not sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda: progress.advance(bar)
