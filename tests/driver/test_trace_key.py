"""The trace cache's key: whatever shapes a plan changes it; what is not known, it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from effcomp.trace_key import Bypass, trace_text


def texts(
    function: Callable[..., Any], *args: Any, grad: bool = False, **options: Any
) -> list[str]:
    """The text of every graph that Dynamo makes of a call; for one that is refused, why."""
    found: list[str] = []

    def backend(gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        try:
            found.append(trace_text(gm, inputs))
        except Bypass as reason:
            found.append(f"bypassed: {reason}")
        return gm.forward

    torch._dynamo.reset()
    with torch.set_grad_enabled(grad):
        torch.compile(function, backend=backend, **options)(*args)
    return found


def text(function: Callable[..., Any], *args: Any, **options: Any) -> str:
    (found,) = texts(function, *args, **options)
    return found


def made(source: str) -> Callable[..., Any]:
    """A function of that source: on the same line of the same file for every source."""
    space: dict[str, Any] = {"torch": torch, "F": nn.functional}
    exec(compile(f"def function(x, y):\n    {source}\n", "model.py", "exec"), space)
    return space["function"]


X = torch.arange(24.0).reshape(4, 6).clone()
BASE = torch.arange(48.0)


def test_the_same_graph_has_the_same_text() -> None:
    first = text(made("return x + y"), X, X.clone())
    assert first == text(made("return x + y"), X.clone(), X.clone())
    assert not first.startswith("bypassed")


@pytest.mark.parametrize(
    "source",
    [
        "return x - y",
        "return x + y + 1",
        "return x + y + 1.0",
        "return x + y + True",
        "return x + y + 1.0000000000000002",
        "return (x + y)[1:]",
        "return (x + y)[:1]",
        "return (x + y)[..., None]",
        "return (x + y).to(torch.float16)",
        "return (x + y).to(torch.bfloat16)",
        "return torch.add(x, y)",
        "return torch.add(x, y, alpha=2)",
        "return x.add(y)",
        "return x.add_(y)",
        "return F.relu(x + y)",
        "return y + x",
        "return (x + y).sum((0, 1))",
        "return (x + y).sum(0)",
        "return torch.ops.aten.add.Tensor(x, y)",
        "return torch.ops.aten.add(x, y)",
    ],
)
def test_another_program_has_another_text(source: str) -> None:
    here = text(made(source), X, X.clone())
    assert not here.startswith("bypassed")
    others = ["return x + y", "return x + y + 1.5", "return x[1:2] + y[1:2]"]
    assert here not in [text(made(other), X, X.clone()) for other in others]


@pytest.mark.parametrize(
    "inputs",
    [
        (X.double(), X.clone()),
        (X[:, :3], X[:, 3:].clone()),
        (X[:1], X.clone()),
        (X.t().contiguous().t(), X.clone()),
        (nn.Parameter(X.clone()), X.clone()),
        (X.clone().requires_grad_(), X.clone()),
        (X, X),
        (BASE[:24].view(4, 6), BASE[24:].view(4, 6)),
        (BASE[:24].view(4, 6), BASE[12:36].view(4, 6)),
        (BASE[:24].view(4, 6), BASE[:24].view(4, 6)),
        (BASE[8:32].view(4, 6), X.clone()),
        (torch.complex(X, X).imag, X.clone()),
        (torch.complex(X, X).conj(), X.clone()),
        (torch._neg_view(X.clone()), X.clone()),
    ],
)
def test_other_inputs_have_another_text(inputs: tuple[Tensor, Tensor]) -> None:
    function = made("return x + y")
    here = text(function, *inputs)
    assert not here.startswith("bypassed")
    assert here != text(function, X.clone(), X.clone())
    assert here != text(function, BASE[:24].view(4, 6), BASE[23:47].view(4, 6))


def test_inference_tensors_have_another_text() -> None:
    function = made("return x + y")
    with torch.inference_mode():
        inputs = X.clone(), X.clone()
        inside = text(function, *inputs)
    assert inside == text(function, *inputs), "Dynamo leaves inference mode while it compiles"
    assert inside != text(function, X.clone(), X.clone())


def test_inputs_that_keep_their_address_have_another_text() -> None:
    marked = X.clone()
    torch._dynamo.mark_static_address(marked)
    function = made("return x + y")
    assert text(function, marked, X.clone()) != text(function, X.clone(), X.clone())


def _default_dtype(dtype: torch.dtype) -> Callable[[], AbstractContextManager[Any]]:
    class Default:
        def __enter__(self) -> None:
            torch.set_default_dtype(dtype)

        def __exit__(self, *_: object) -> None:
            torch.set_default_dtype(torch.float32)

    return Default


@contextmanager
def _transform() -> Iterator[None]:
    torch._C._functorch._grad_increment_nesting()
    try:
        yield
    finally:
        torch._C._functorch._grad_decrement_nesting()


class _Deterministic:
    def __enter__(self) -> None:
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "setting",
    [
        torch.enable_grad,
        _default_dtype(torch.float64),
        _Deterministic,
        lambda: torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        lambda: torch.backends.mkldnn.flags(enabled=False),
        lambda: torch.backends.cudnn.flags(enabled=False),
        lambda: torch._functorch.config.patch(functionalize_rng_ops=True),
    ],
)
def test_other_settings_have_another_text(setting: Callable[[], Any]) -> None:
    function = made("return x + y")
    found: list[str] = []

    def backend(gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        found.append(trace_text(gm, inputs))
        return gm.forward

    with torch.no_grad():
        for _ in range(2):
            torch._dynamo.reset()
            torch.compile(function, backend=backend)(X, X)
        with setting():
            torch._dynamo.reset()
            torch.compile(function, backend=backend)(X, X)
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_a_line_that_moved_has_another_text() -> None:
    space: dict[str, Any] = {}
    exec(compile("def here(x):\n    return x + 1\n", "model.py", "exec"), space)
    exec(compile("\ndef there(x):\n    return x + 1\n", "model.py", "exec"), space)
    here, there = (text(space[name], X).replace("there", "here") for name in ("here", "there"))
    assert here != there


def test_modules_and_names_are_part_of_the_text() -> None:
    class Model(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            setattr(self, name, nn.Linear(6, 6))
            self.name = name

        def forward(self, x: Tensor) -> Tensor:
            return getattr(self, self.name)(x)

    assert "up" in text(Model("up"), X)
    assert text(Model("up"), X) != text(Model("down"), X)


def _allowed(x: Tensor) -> Tensor:
    return x + 1


def _posing(x: Tensor) -> Tensor:
    return x + 1


_posing.__module__, _posing.__name__ = "torch.nn.functional", "silu"
torch._dynamo.allow_in_graph(_allowed)
torch._dynamo.allow_in_graph(_posing)


@torch.library.custom_op("effcomp_trace_key::twice", mutates_args=())
def _twice(x: Tensor) -> Tensor:
    return x * 2


@_twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _checkpointed(x: Tensor) -> Tensor:
    return torch.utils.checkpoint.checkpoint(lambda y: y.relu(), x, use_reentrant=False)


@pytest.mark.parametrize(
    ("function", "inputs", "reason"),
    [
        (
            lambda x: _allowed(x) * 2,
            (X,),
            "_allowed is no function of torch's that is known to be safe",
        ),
        (lambda x: _posing(x) * 2, (X,), "torch.nn.functional.silu is no function of torch's"),
        (_twice, (X,), "effcomp_trace_key.twice.* is an operator of another library"),
        (torch.ops.effcomp_trace_key.twice, (X,), "is an operator of another library"),
        (_checkpointed, (X,), "the graph holds modules or graphs"),
        (torch.vmap(lambda x: x + 1), (X,), "is no function of torch's that is known"),
        (lambda x: x + 1, (TwoTensor(X.clone(), X.clone()),), "an input is a TwoTensor"),
    ],
)
def test_what_is_refused(function: Callable[..., Any], inputs: Any, reason: str) -> None:
    found = texts(function, *inputs)
    assert found, "a graph was traced"
    for refused in found:
        assert refused.startswith("bypassed: ")
    assert any(re.search(reason, refused) for refused in found), found


def test_symbolic_sizes_are_refused() -> None:
    assert text(lambda x: x + 1, X, dynamic=True) == "bypassed: an input is a SymInt"
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        found = text(lambda x: x * x.sum().item(), X)
    assert found == "bypassed: Tensor.item gives SymFloat, no plain dense tensor"
    fixed = X.clone()
    torch._dynamo.mark_dynamic(fixed, 0)
    assert text(lambda x: x + 1, fixed).startswith("bypassed: ")


def test_autocast_outside_of_the_graph_is_refused() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert text(lambda x: x @ x.t(), X) == "bypassed: autocast is on"


def test_autocast_inside_of_the_graph_is_not() -> None:
    def function(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        def inside(x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=dtype):
                return x @ x.t()

        return inside

    low, half = text(function(torch.bfloat16), X), text(function(torch.float16), X)
    assert not low.startswith("bypassed")
    assert low != half


def test_graphs_from_elsewhere_are_refused() -> None:
    gm = torch.fx.symbolic_trace(lambda x: x + 1)
    with pytest.raises(Bypass, match="not from Dynamo"):
        trace_text(gm, [X])


Spoil = Callable[[torch.fx.GraphModule, list[Any], pytest.MonkeyPatch], object]


def _hold_a_tensor(gm: torch.fx.GraphModule, *_: Any) -> None:
    gm.register_buffer("held", X)


def _split(gm: torch.fx.GraphModule, *_: Any) -> None:
    del gm._param_name_to_source


def _fakify(_gm: Any, _inputs: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch._guards.TracingContext.get(), "fakify_first_call", True)


def _attribute(gm: torch.fx.GraphModule, *_: Any) -> None:
    gm.held = X
    (output,) = gm.graph.find_nodes(op="output")
    with gm.graph.inserting_before(output):
        gm.graph.get_attr("held")


def _argument(gm: torch.fx.GraphModule, *_: Any) -> None:
    (node,) = gm.graph.find_nodes(op="call_method", target="relu")
    node.kwargs = {"generator": torch.Generator()}


def _own_method(_gm: Any, _inputs: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tensor, "relu", _allowed)


def _sparse(_gm: Any, inputs: list[Any], *_: Any) -> None:
    inputs[0] = X.to_sparse()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_hold_a_tensor, "the graph holds tensors of its own"),
        (_split, "the graph is a part of one from Dynamo"),
        (_fakify, "the graph is a part of one from Dynamo"),
        (_attribute, "a node of kind get_attr stands in the graph"),
        (_argument, "an argument is a Generator"),
        (_own_method, "Tensor.relu is not a method of torch's"),
        (_sparse, "an input is not a plain dense tensor"),
    ],
)
def test_what_dynamo_seldom_hands_over_is_refused(
    spoil: Spoil, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _refusal(lambda *given: spoil(*given, monkeypatch)).startswith(reason)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (torch.utils._python_dispatch.TorchDispatchMode, "a dispatch mode is active"),
        (torch.overrides.TorchFunctionMode, "a dispatch mode is active"),
        (_transform, "a transform of functorch is active"),
    ],
)
def test_modes_and_transforms_are_refused(
    mode: Callable[[], AbstractContextManager[Any]], reason: str
) -> None:
    assert _refusal(lambda *_: None, mode) == reason


def _refusal(
    spoil: Callable[..., object], mode: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> str:
    """Why a graph that was fine is refused after `spoil`, or inside of `mode`."""
    found: list[str] = []

    def backend(gm: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        trace_text(gm, inputs)
        given = list(inputs)
        spoil(gm, given)
        with mode(), pytest.raises(Bypass) as caught:
            trace_text(gm, given)
        found.append(str(caught.value))
        return lambda *args: args

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(lambda x: nn.functional.silu(x.relu()), backend=backend)(X)
    return found[0]


def test_programs_that_change_how_torch_traces_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._decomp import decomposition_table

    assert not text(lambda x: x + 1, X).startswith("bypassed")
    monkeypatch.setitem(decomposition_table, torch.ops.aten.silu.default, _allowed)
    found = text(lambda x: x + 1, X)
    assert found == "bypassed: the program takes aten.silu.default apart in its own way"
    monkeypatch.undo()
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("silu", _allowed, "CompositeExplicitAutograd", allow_override=True)
        found = text(lambda x: x + 1, X)
    assert found.startswith("bypassed: the program registers aten/silu")
