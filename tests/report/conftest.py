"""Reports of a small model, for a CPU and for a GPU that need not be there."""

from __future__ import annotations

import pytest
import torch

import effcomp
from effcomp.api import Compilation, recording
from effcomp.report.schema import Report
from effcomp.reporting import report_of, source_lines, versions
from tests.report.stacked import Stack


@pytest.fixture(scope="session")
def cpu_report() -> Report:
    """What `explain` says of the model on a CPU."""
    with torch.no_grad():
        return effcomp.explain(Stack(), torch.randn(3, 16))


@pytest.fixture(scope="session")
def gpu_record() -> Compilation:
    """The same model planned for cuda:90; its kernels run in Triton's interpreter."""
    torch.compiler.reset()
    with recording() as found, torch.no_grad():
        options = {"target": "cuda:90"}
        torch.compile(Stack(), backend="effcomp", options=options)(torch.randn(3, 16))
    return found[0]


@pytest.fixture(scope="session")
def gpu_report(gpu_record: Compilation) -> Report:
    graphs = (report_of(gpu_record),)
    return Report(
        graphs=graphs, title="Stack", versions=versions(), sources=source_lines(graphs, Stack)
    )
