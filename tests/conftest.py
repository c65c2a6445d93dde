"""What every test shares: one thread a worker, a seed, a cache; no GPU test without a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from hypothesis import HealthCheck, settings

# How long drawing an example takes says something of the machine, nothing of what is tested.
settings.register_profile(
    "effcomp", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("effcomp"), derandomize=False)
settings.load_profile("effcomp")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write what goldens ought to hold"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread_a_worker() -> None:
    """Keep parallel workers from fighting over the cores; a serial run keeps torch's choice."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the cache of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFCOMP_CACHE_DIR", str(tmp_path_factory.mktemp("effcomp-cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _backend_has_its_name() -> None:
    """Let torch.compile find "effcomp" by name also where the package is not installed."""
    if entry_points(group="torch_dynamo_backends", name="effcomp"):
        return
    from torch._dynamo import register_backend

    from effcomp.entry import backend

    register_backend(backend, name="effcomp")


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start every test from the same random state, and leave no compiled code to the next one."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    torch.manual_seed(0)
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
