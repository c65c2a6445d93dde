"""A warm start without AOTAutograd: the same results, and only where the plan is all there is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils import _pytree as pytree

import effcomp as ec
from effcomp import api, cache, capture, trace_cache
from effcomp.errors import CacheWarning
from tests.driver.processes import printed_by
from tests.models.zoo import ZOO

ROOT = Path(__file__).parents[2]
OPTIONS = {"regions": "never"}  # no C++ compiler is waited for


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFCOMP_CACHE_DIR", str(tmp_path))
    return tmp_path


def traces(folder: Path) -> list[Path]:
    return sorted(folder.glob("traces/*.json"))


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """As in a new process: nothing that Dynamo compiled is known, and nothing is counted."""
    torch._dynamo.reset()
    counters["effcomp"].clear()
    return torch.compile(function, backend=api.backend, options={**OPTIONS, **options})


def counted() -> dict[str, int]:
    return dict(counters["effcomp"])


def refuse(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("AOTAutograd runs although the trace is known")


X = torch.arange(24.0).reshape(4, 6).clone()


# Hits.


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param("flux", torch.float32, marks=pytest.mark.slow),
        ("llama_decode", torch.float32),  # writes into a static cache
        ("qwen_moe", torch.bfloat16),
        pytest.param("unet", torch.float32, marks=pytest.mark.slow),
        ("bert", torch.float32),
    ],
)
def test_a_hit_gives_the_models_numbers(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ZOO[name]

    def two_calls(call: Callable[..., Any]) -> list[Any]:
        outputs = (entry.output(call(**entry.inputs(dtype=dtype))) for _ in range(2))
        return pytree.tree_map(Tensor.clone, list(outputs))

    with torch.no_grad():
        eager = two_calls(entry.build(dtype))
        cold = two_calls(compiled(entry.build(dtype)))
        assert counted() == {"trace misses": 1}
        monkeypatch.setattr(capture, "compile_dynamo", refuse)
        warm = two_calls(compiled(entry.build(dtype)))
        assert counted() == {"trace hits": 1}
    torch.testing.assert_close(warm, cold, rtol=0, atol=0)
    tolerance = 1e-4 if dtype is torch.float32 else 5e-2
    torch.testing.assert_close(warm, eager, rtol=tolerance, atol=tolerance)


PROGRAM = """
import json, sys, torch
from effcomp import api
from torch._dynamo.backends import common
from torch._dynamo.utils import counters
from tests.models.zoo import ZOO

if "warm" in sys.argv:
    common.aot_module_simplified = None
entry = ZOO["llama_decode"]
model = entry.build()
with torch.no_grad():
    call = torch.compile(model, backend=api.backend, options={"regions": "never"})
    outputs = [entry.output(call(**entry.inputs())).double().sum().item() for _ in range(2)]
compilers = ("capture", "codegen", "compiling", "ir", "passes", "reference", "rewrite")
imported = [name for name in compilers if f"effcomp.{name}" in sys.modules]
counted = dict(counters["effcomp"])
print(json.dumps({"outputs": outputs, "counted": counted, "imported": imported}))
"""


@pytest.mark.slow
def test_a_second_process_needs_no_aot_autograd(folder: Path) -> None:
    cold = printed_by(PROGRAM)
    assert cold["counted"] == {"trace misses": 1}
    assert len(traces(folder)) == 1
    warm = printed_by(PROGRAM, "warm")
    assert warm["counted"] == {"trace hits": 1}
    assert warm["outputs"] == cold["outputs"]
    assert warm["imported"] == [], "a hit waits for what compiles to be imported"


# Programs around which AOTAutograd has work to do, or nearly.


def two(x: Tensor) -> Tensor:
    x[0].add_(1)
    x[:, 0].mul_(3)
    return x.sum()


def metadata(x: Tensor) -> Tensor:
    x.t_()
    return x * 1


def resized(x: Tensor) -> Tensor:
    x.resize_(2, 12)
    return x + 1


def written(x: Tensor) -> Tensor:
    x.add_(1)
    return x


def view_of_written(x: Tensor) -> Tensor:
    x.add_(1)
    return x[0]


def pair(x: Tensor, y: Tensor) -> Tensor:
    x.add_(y)
    y.mul_(2)
    return x + y


def written_beside(x: Tensor, y: Tensor) -> Tensor:
    x.mul_(2)
    return x.relu() + y.relu()


def gradients_inside(x: Tensor) -> Tensor:
    with torch.enable_grad():
        y = x * 2
    return y + 1


def gradients_after(x: Tensor) -> Tensor:
    torch.set_grad_enabled(True)
    return x * 2


def autocast_inside(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.t()


def replaced(x: Tensor, y: Tensor) -> Tensor:
    x.set_(y)
    return x + 1


def one() -> tuple[Tensor]:
    return (X.clone(),)


def same() -> tuple[Tensor, Tensor]:
    x = X.clone()
    return x, x


def overlapping() -> tuple[Tensor, Tensor]:
    base = torch.arange(24.0)
    return base[:16].view(4, 4), base[8:].view(4, 4)


def beside() -> tuple[Tensor, Tensor]:
    base = torch.arange(32.0)
    return base[:16].view(4, 4), base[16:].view(4, 4)


class Trained(nn.Module):
    """Writes into its parameter and its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(2)
        self.calls.add_(1)
        return x * self.weight + self.calls


CASES = [
    # function, inputs, whether a second start is warm without gradients
    (two, one, True),
    (metadata, one, True),  # Dynamo does that itself
    (resized, one, True),
    (written, one, False),
    (view_of_written, one, False),
    (lambda x: x.t(), one, False),
    (lambda x: x.detach(), one, False),
    (lambda x: (x, x + 1), one, True),  # Dynamo returns an input by itself
    (lambda x: (x * 2).relu_(), one, True),
    (pair, same, True),
    (written_beside, overlapping, False),
    (written_beside, beside, True),
    (pair, beside, True),
    (torch.add, same, True),
    (torch.add, overlapping, True),
    (replaced, same, True),
    (gradients_inside, one, True),
    (gradients_after, one, False),
    (autocast_inside, one, True),
    (lambda x: x + torch.rand_like(x), one, True),
    (lambda x: nn.functional.dropout(x, 0.5, True), one, True),
    (lambda x: x[:, :2] + torch.tensor([1.0, 2.0]), one, False),
    (lambda x: (x * torch.tensor(2.5), torch.tensor(3)), one, True),
    (lambda x: torch.zeros(3) + x[0, :3], one, True),
    (lambda x: x.topk(2), one, True),
    (lambda x: (x * 2).chunk(2), one, True),
    (Trained(), one, True),
]


def observed(call: Callable[..., Any], inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """All that a caller can see of two calls: values, layouts, sharing, what was written, state."""
    torch.manual_seed(0)
    grad = torch.is_grad_enabled()
    results: list[Any] = []
    try:
        for _ in range(2):
            results += pytree.tree_leaves(call(*inputs))
            results.append(torch.is_grad_enabled())
            torch.set_grad_enabled(grad)
    finally:
        torch.set_grad_enabled(grad)
    tensors = [t for t in (*inputs, *results) if isinstance(t, Tensor)]
    storages = [t.untyped_storage()._cdata for t in tensors]
    return (
        [t.clone() for t in tensors],
        [(t.stride(), t.storage_offset(), t.requires_grad, t.is_inference()) for t in tensors],
        [storages.index(s) for s in storages],
        [next(i for i, u in enumerate(tensors) if u is t) for t in tensors],
        [r for r in results if not isinstance(r, Tensor)],
        torch.rand(1),  # where the generator is
    )


@pytest.mark.parametrize(
    ("function", "inputs", "warm", "mode"),
    [
        *((*case, torch.no_grad) for case in CASES),
        *((*case, torch.inference_mode) for case in CASES[::4]),
        *((*case, torch.enable_grad) for case in CASES[1::4]),
        (Trained(), one, False, torch.enable_grad),
    ],
)
def test_a_second_start_is_as_the_first(
    function: Callable[..., Any],
    inputs: Callable[[], tuple[Tensor, ...]],
    warm: bool,
    mode: Callable[[], Any],
) -> None:
    def fresh() -> Callable[..., Any]:
        return Trained() if isinstance(function, Trained) else function

    with mode():
        expected = observed(fresh(), inputs())
        first = observed(compiled(fresh()), inputs())
        found = counted()
        second = observed(compiled(fresh()), inputs())
        again = counted()
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(second[0], expected[0], rtol=1e-6, atol=1e-6)
    assert second[2:5] == expected[2:5]
    if mode is torch.no_grad:
        assert ("trace hits" in again) is warm, (found, again)


# What is not kept, or not looked for.


def start(function: Callable[..., Any], *inputs: Tensor, **options: Any) -> dict[str, int]:
    """What the second of two starts counts."""
    grad = torch.is_grad_enabled()
    for _ in range(2):
        compiled(function, **options)(*inputs)
        torch.set_grad_enabled(grad)
    return counted()


@pytest.mark.parametrize(
    ("function", "inputs", "reason"),
    [
        (written, one, "an output shares memory with an input"),
        (gradients_after, one, "it leaves another grad mode"),
        (written_beside, overlapping, "its inputs were regrouped"),
        (lambda x: x[:, :2] + torch.tensor([1.0, 2.0]), one, "the program holds constants"),
    ],
)
def test_why_a_trace_is_not_kept(
    function: Callable[..., Any], inputs: Callable[[], Any], reason: str, folder: Path
) -> None:
    with torch.no_grad():
        found = start(function, *inputs())
    assert found == {"trace misses": 1, f"trace not kept: {reason}": 1}
    assert not traces(folder)


def test_a_graph_that_runs_eagerly_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no tracing today")

    monkeypatch.setattr("torch._dynamo.backends.common.aot_module_simplified", unable)
    with torch.no_grad(), pytest.warns(ec.errors.FallbackWarning, match="no tracing today"):
        found = start(lambda x: x + 1, X)
    assert found["trace not kept: it is not one graph for inference"] == 1
    assert not traces(folder)


def test_training_goes_through_aot_autograd(folder: Path) -> None:
    weight = X.clone().requires_grad_()
    found = start(lambda x: (x * 2).sum(), weight)
    assert found == {"trace bypassed: gradients are needed": 1}

    def trained_inside(x: Tensor) -> Tensor:
        with torch.enable_grad():
            return x * 2

    with torch.no_grad():
        second = start(trained_inside, weight)
    assert second == {
        "trace misses": 1,
        "trace not kept: it is not one graph for inference": 1,
    }
    assert not traces(folder)


def test_a_torch_that_names_things_otherwise_goes_through_aot_autograd(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        with monkeypatch.context() as patch:
            patch.delattr(torch.library, "_impls")
            (found,) = start(torch.relu, X)
        assert found.startswith("trace bypassed: module 'torch.library' has no attribute")
    assert not traces(folder)


def test_dynamic_sizes_go_through_aot_autograd(folder: Path) -> None:
    call = compiled(lambda x: x * 2)
    with torch.no_grad():
        for rows in (4, 3, 2):
            torch.testing.assert_close(call(X[:rows]), X[:rows] * 2)
    assert counted() == {"trace misses": 1, "trace bypassed: an input is a SymInt": 1}
    assert len(traces(folder)) == 1


@pytest.mark.parametrize("options", [{"cache": False}, {"trace": ("join-attention",)}])
def test_options_that_leave_the_cache_alone(options: dict[str, Any], folder: Path) -> None:
    with torch.no_grad():
        assert start(lambda x: x + 1, X, **options) == {}
    assert not traces(folder)


def test_explain_sees_every_stage_though_the_trace_is_known(folder: Path) -> None:
    def function(x: Tensor) -> Tensor:
        return torch.relu(x + 1)

    with torch.no_grad():
        assert start(function, X, regions="auto") == {"trace hits": 1}
        (graph,) = ec.explain(function, X).graphs
    assert graph.stages
    assert counted() == {"trace hits": 1}, "recording, nothing is looked up"


# What tells traces apart beside the graph itself.


def test_options_and_targets_have_their_own_traces(folder: Path) -> None:
    def function(x: Tensor) -> Tensor:
        return x + 1

    with torch.no_grad():
        for options in ({}, {"disable": ("canonicalize",)}, {"horizontal_rows": 2}):
            compiled(function, **options)(X)
            assert counted() == {"trace misses": 1}
        compiled(function, target="cuda:90")(X)
        assert counted() == {"trace misses": 1}
        assert len(traces(folder)) == 4
        compiled(function, progress=False)(X)
        assert counted() == {"trace hits": 1}


def test_what_is_registered_has_its_own_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        assert start(lambda x: x + 1, X) == {"trace hits": 1}
        monkeypatch.setattr(trace_cache, "registered_text", lambda: "pass mine 1.0 0123")
        compiled(lambda x: x + 1)(X)
    assert counted() == {"trace misses": 1}


def test_hooks_have_their_own_traces() -> None:
    with torch.no_grad():
        plain, hooked = nn.Linear(6, 6), nn.Linear(6, 6)
        hooked.load_state_dict(plain.state_dict())
        hooked.register_forward_hook(lambda _module, _args, output: output * 2)
        once = compiled(plain)(X)
        twice = compiled(hooked)(X)
        assert counted() == {"trace misses": 1}
    torch.testing.assert_close(twice, once * 2)


def test_weights_are_the_callers_own() -> None:
    with torch.no_grad():
        for _ in range(2):
            model = nn.Linear(6, 6)
            call = compiled(model)
            torch.testing.assert_close(call(X), model(X))
            model.weight.mul_(3)
            torch.testing.assert_close(call(X), model(X))
    assert counted() == {"trace hits": 1}


# The entries.


@pytest.mark.parametrize("damage", ["", "not a trace", "half", '{"plan": 3}'])
def test_a_damaged_entry_is_rebuilt(folder: Path, damage: str) -> None:
    with torch.no_grad():
        first = compiled(torch.relu)(X - 10)
        (entry,) = traces(folder)
        text = entry.read_text()
        if damage == '{"plan": 3}':  # its stamp is right
            damage = f"{cache._stamp(damage)}\n{damage}"
        entry.write_text(text[: len(text) // 2] if damage == "half" else damage)
        with pytest.warns(CacheWarning, match="is rebuilt"):
            again = compiled(torch.relu)(X - 10)
    assert counted() == {"trace misses": 1}
    assert torch.equal(first, again)
    assert entry.read_text() == text


def test_a_trace_without_its_plan_is_a_miss(folder: Path) -> None:
    with torch.no_grad():
        compiled(torch.relu)(X)
        for plan in folder.glob("plans/*.json"):
            plan.unlink()
        compiled(torch.relu)(X)
        assert counted() == {"trace misses": 1}
        compiled(torch.relu)(X)
    assert counted() == {"trace hits": 1}


def test_eviction_counts_plans_and_traces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        compiled(torch.relu)(X)
    (plan,) = folder.glob("plans/*.json")
    (trace,) = traces(folder)
    os.utime(trace, (1, 1))
    total = plan.stat().st_size + trace.stat().st_size
    monkeypatch.setattr(cache, "_LIMIT_BYTES", total + 10)
    cache.write_trace("new", "0" * 64)
    assert [path.stem for path in traces(folder)] == ["new"]
    assert plan.exists()


def test_many_threads_write_and_read_one_trace(folder: Path) -> None:
    trace = "0" * 64
    found: list[str | None] = []

    def work() -> None:
        for _ in range(50):
            cache.write_trace("key", trace)
            found.append(cache.read_trace("key"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [trace] * 200
    assert [path.name for path in (folder / "traces").iterdir()] == ["key.json"]
