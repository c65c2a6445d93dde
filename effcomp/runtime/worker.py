"""A compile worker: `python -m effcomp.runtime.worker` reads tasks from stdin, answers on stdout.

A message is a pickle behind its length in 8 bytes. A task is ("module:function", arguments); the
answer is None, or the error as text: results travel through the compilers' disk caches.
"""

import importlib
import os
import pickle
import sys
from typing import Any, BinaryIO

__all__ = ["CLOSED", "read_message", "write_message"]

CLOSED = object()
"""In place of a message: the other side is gone."""


def read_message(stream: BinaryIO) -> Any:
    """The next message; CLOSED where the other side has closed the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return CLOSED
    return pickle.loads(stream.read(int.from_bytes(head, "little")))


def write_message(stream: BinaryIO, message: Any) -> None:
    body = pickle.dumps(message)
    stream.write(len(body).to_bytes(8, "little") + body)
    stream.flush()


def main() -> None:
    # Compilers print to stdout now and then: that must not end up among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (task := read_message(sys.stdin.buffer)) is not CLOSED:
        name, arguments = task
        module, _, function = name.partition(":")
        try:
            getattr(importlib.import_module(module), function)(*arguments)
        except Exception as error:  # noqa: BLE001 - answered; compiling again in the parent raises it
            write_message(answers, f"{type(error).__name__}: {error}")
        else:
            write_message(answers, None)


if __name__ == "__main__":
    main()
