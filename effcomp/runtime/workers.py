"""Compiling in parallel: worker processes fill the compilers' disk caches, with a progress bar."""

import contextlib
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from effcomp.runtime.worker import read_message, write_message

__all__ = ["progress_bar", "run_in_workers"]

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


def _feed(
    function: str, waiting: "queue.SimpleQueue[tuple[Any, ...]]", done: Callable[[], None]
) -> None:
    """Hand one worker tasks until none is left."""
    root = str(pathlib.Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "effcomp.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    except OSError:
        return  # no interpreter to start (an embedding program): the caller compiles
    assert process.stdin is not None, "stdin is a pipe"
    assert process.stdout is not None, "stdout is a pipe"
    try:
        while True:
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                return
            write_message(process.stdin, (function, task))  # pyright: ignore[reportArgumentType]
            read_message(process.stdout)  # pyright: ignore[reportArgumentType]
            done()
    except OSError:
        return  # the worker died: what it leaves undone the caller compiles
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


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
