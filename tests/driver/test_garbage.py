"""What the garbage collector is kept from looking at, and that it looks again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from effcomp import garbage
from effcomp.api import backend
from tests.driver.processes import printed_by


class Cycle:
    """Garbage once nobody holds it, which the collector alone finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    """Whoever named the backend before may not have called it."""
    with garbage.frozen():
        pass
    yield
    gc.unfreeze()


def test_what_was_set_aside_is_collected_after_the_block() -> None:
    cycle = weakref.ref(Cycle())
    with garbage.frozen():
        gc.collect()
        assert cycle() is not None, "it is out of sight"
        later = weakref.ref(Cycle())
        gc.collect()
        assert later() is None, "what is made inside is collected as ever"
    gc.collect()
    assert cycle() is None


def test_a_block_ends_what_was_set_aside_before() -> None:
    before = gc.get_freeze_count()
    garbage.set_aside()
    garbage.set_aside()
    assert gc.get_freeze_count() > before
    with garbage.frozen():
        pass
    assert gc.get_freeze_count() <= before


def test_what_a_program_froze_itself_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with garbage.frozen():
        pass
    assert gc.get_freeze_count() >= frozen - 1_000  # some of it was freed


def test_compiling_brings_everything_back_also_where_it_fails() -> None:
    before = gc.get_freeze_count()
    torch.compile(lambda x: x + 1, backend=backend)(torch.ones(3))
    assert gc.get_freeze_count() <= before
    garbage.set_aside()
    with pytest.raises(BackendCompilerFailed, match="speed"):
        torch.compile(lambda x: x + 2, backend=backend, options={"speed": 1})(torch.ones(3))
    assert gc.get_freeze_count() <= before


PROGRAM = """
import gc, json, torch

before = gc.get_freeze_count()
call = torch.compile(lambda x: x + 1, backend="effcomp")
named = gc.get_freeze_count()
call(torch.ones(3))
print(json.dumps([before, named, gc.get_freeze_count()]))
"""


def test_naming_the_backend_sets_aside_what_is_there_until_the_first_graph() -> None:
    before, named, after = printed_by(PROGRAM)
    assert named > before + 10_000
    assert after <= before
