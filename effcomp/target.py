"""What a device can do: data only."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A device kind. Rates are achievable ones: bytes/s, FLOP/s; sizes in bytes."""

    name: str  # "cuda:90", "cpu"
    kind: str  # "cuda" or "cpu"
    capability: int  # 90 for sm_90; 0 for a CPU
    bandwidth: float
    matrix_rate: float  # bf16/f16 dense
    vector_rate: float  # f32 arithmetic outside the matrix unit
    launch_seconds: float  # host and device cost of starting one kernel
    processors: int  # streaming multiprocessors or cores
    shared_memory: int  # bytes a block may use


TARGETS = {
    t.name: t
    for t in (
        Target("cuda:80", "cuda", 80, 1.4e12, 260e12, 19e12, 5e-6, 108, 166_912),
        Target("cuda:89", "cuda", 89, 0.9e12, 300e12, 80e12, 5e-6, 128, 101_376),
        # H200, measured: copy 4.26 TB/s, bf16 mm 690-790 TFLOP/s (torch 2.11).
        Target("cuda:90", "cuda", 90, 4.26e12, 700e12, 60e12, 4e-6, 132, 232_448),
        Target("cuda:100", "cuda", 100, 7.0e12, 1500e12, 75e12, 4e-6, 148, 232_448),
        Target("cpu", "cpu", 0, 3e10, 2e11, 5e10, 2e-6, 2, 0),
    )
}


def fitting_target(targets: Iterable[Target], capability: int) -> Target | None:
    """The newest of the GPU targets whose code a GPU of this capability can run."""
    fitting = [t for t in targets if t.kind == "cuda" and t.capability <= capability]
    return max(fitting, key=lambda t: t.capability, default=None)
