"""Reports of a small model, for a CPU and for a GPU that need not be there."""

from __future__ import annotations

import pytest
import torch

import effcomp
from effcomp.api import recording
from effcomp.report.schema import Report
from effcomp.reporting import report_of, source_lines, versions
from tests.report.stacked import Stack


@pytest.fixture(scope="session")
def cpu_report() -> Report:
    """What `explain` says of the model on a CPU."""
    with torch.no_grad():
        return effcomp.explain(Stack(), torch.randn(3, 16))


@pytest.fixture(scope="session")
def gpu_report() -> Report:
    """The same model planned for cuda:90; its kernels run in Triton's interpreter."""
    model = Stack()
    torch.compiler.reset()
    with recording() as found, torch.no_grad():
        options = {"target": "cuda:90"}
        torch.compile(model, backend="effcomp", options=options)(torch.randn(3, 16))
    graphs = tuple(map(report_of, found))
    return Report(
        graphs=graphs, title="Stack", versions=versions(), sources=source_lines(graphs, model)
    )
