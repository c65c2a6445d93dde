"""What results share, with each other and with arguments, and how they lie: all as in eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import effcomp

TARGETS = pytest.mark.parametrize("target", ["cpu", "cuda:90"])
WEIGHT = torch.linspace(-1, 1, 20).view(5, 4)

Results = tuple[Any, ...]


def compiled(function: Callable[..., Any], target: str, **rest: Any) -> Callable[..., Any]:
    torch._dynamo.reset()
    options = {"target": target, "cache": False, "regions": "never", "cuda_graphs": "off"}
    return torch.compile(function, backend=effcomp.backend, options=options, fullgraph=True, **rest)


def check(
    function: Callable[..., Any],
    target: str,
    *rest: int,
    dynamic: bool = False,
    strides: Callable[[Tensor], Sequence[int]] = Tensor.stride,
) -> None:
    mine, theirs = arguments(), arguments()
    found = pytree.tree_leaves(compiled(function, target, dynamic=dynamic)(mine, *rest))
    expected = pytree.tree_leaves(function(theirs, *rest))
    compare([mine, *found], [theirs, *expected], strides)


def arguments() -> Tensor:
    return torch.arange(1.0, 13.0).view(3, 4)


def compare(
    found: Sequence[Any],
    expected: Sequence[Any],
    strides: Callable[[Tensor], Sequence[int]] = Tensor.stride,
) -> None:
    """Values, strides, who is whose view, and where views of one memory begin."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    mine, theirs = tensors(found), tensors(expected)
    assert [strides(t) for t in mine] == [strides(t) for t in theirs]
    memory = sharing(theirs)
    assert sharing(mine) == memory
    for one, other, place in zip(mine, theirs, memory, strict=True):
        lookers = {id(t) for t, m in zip(theirs, memory, strict=True) if m == place}
        if len(lookers) > 1:  # a view alone may have memory that begins with it
            assert one.storage_offset() == other.storage_offset()


def tensors(values: Sequence[Any]) -> list[Tensor]:
    return [v for v in values if isinstance(v, Tensor)]


def sharing(values: Sequence[Tensor]) -> list[int]:
    """For each tensor the first one with the same memory; those without elements stay alone."""
    storages = [t.untyped_storage().data_ptr() if t.numel() else -i for i, t in enumerate(values)]
    return [storages.index(storage) for storage in storages]


# Views of what is computed.


def row(x: Tensor) -> Results:
    y = x * 2
    return y, y[0]


def fused_projection(x: Tensor) -> Results:
    q, k, v = nn.functional.linear(x, torch.cat([WEIGHT] * 3)).chunk(3, -1)
    return k, v.unflatten(-1, (5, 1)).transpose(0, 1), q.sum()


def transposed(x: Tensor) -> Results:
    y = x.relu()
    return y.t(), y, y.t()[1:, None]


def expanded(x: Tensor) -> Results:
    y = x.sum(1, keepdim=True)
    return y, y.expand(3, 5), y.squeeze(1), y.t()[None].expand(2, 1, 3)


def aliases(x: Tensor) -> Results:
    y = x * 2
    return y, y.view(-1), y.detach(), y, y[1:, 2:], y.view(torch.int32)


def strided(x: Tensor) -> Results:
    y = x.t() * 2
    return y.as_strided((5, 3), (2, 1), 1), y.diagonal(), y[0], y.unfold(0, 2, 1)


def two_bases(x: Tensor) -> Results:
    y, z = x * 2, x + 1
    return y[0], z[:, 1], y[1], z[1]


def copies(x: Tensor) -> Results:
    y = x * 2
    z = y.clone()
    return y, z, z[0], y * 1, y[1], y.contiguous()


def equal_values(x: Tensor) -> Results:
    a, b = x.exp(), x.t().exp().t()
    return a, a[0], b, b[0]


def several_results(x: Tensor) -> Results:
    values, indices = x.topk(2)
    return values, values[0], indices[:, 0], indices


def written_in_place(x: Tensor) -> Results:
    y = x * 2
    y[0].mul_(3)
    y.t()[1] += 1
    return y[1], y, (x[1:] + 1).view(-1).relu_()


def single_dims(x: Tensor) -> Results:
    y = x * 2
    return y[:, :1], y[:1], y.t()[None], y.unsqueeze(1)


def empty_parts(x: Tensor) -> Results:
    y = x * 2
    return y[:0], y[:, 4:], y


def empty_computations(x: Tensor) -> Results:
    return x[:0] * 2 + 1, (x[:0] * 2).sum(0), x.sin()


def complex_parts(x: Tensor) -> Results:
    z = torch.complex(x, x)
    return torch.view_as_real(z), z, z[0]


def constants(x: Tensor) -> Results:
    c = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    return c, c[0], x + 1


def without_operands(x: Tensor) -> Results:
    y = torch.zeros(3, 4)
    return y, y[0], x + 1, torch.arange(4)[None].expand(3, 4)


def nested(x: Tensor) -> dict[str, Any]:
    y = x * 2
    return {"a": y.view(3, 2, 2).permute(1, 0, 2), "b": [y[0], None, y.shape[0]]}


# Views alone: memory of their own, laid out as in eager.


def alone(x: Tensor) -> Results:
    return (
        (x * 2).chunk(2, 1)[1],
        x.relu().t()[None],
        (x + 1).sum(1, keepdim=True).expand(3, 5),
        (x * 3).t()[None].expand(5, 4, 3),
        (x * 4).unfold(1, 3, 1),
        (x * 5).view(-1)[::3],
        x.diagonal().clone(),
        x.diagonal() * 1,
    )


# Views of what is given.


def of_an_argument(x: Tensor) -> Results:
    return x.t(), x[1:, 2:], x.diagonal(1), x.as_strided((2, 2), (1, 2), 1), x * 1, x


def of_a_copy(x: Tensor) -> Results:
    y = x.clone()
    return y, y[0], x[0], (x * 1).view(-1)


def of_a_written_argument(x: Tensor) -> Results:
    x[1].mul_(2)
    return x[1], x.t()[1:], x + 1


def copied_into_an_argument(x: Tensor) -> Results:
    y = x + 1
    x.copy_(y)
    return y[1:], y[0], x[2]


PROGRAMS = [
    row, fused_projection, transposed, expanded, aliases, strided, two_bases, copies, equal_values,
    several_results, written_in_place, single_dims, empty_parts, empty_computations, complex_parts,
    constants, without_operands, nested, alone, of_an_argument, of_a_copy, of_a_written_argument,
    copied_into_an_argument,
]  # fmt: skip


@TARGETS
@pytest.mark.parametrize("program", PROGRAMS)
@torch.no_grad()
def test_results_lie_as_in_eager(program: Callable[..., Any], target: str) -> None:
    check(program, target)


@pytest.mark.parametrize("program", PROGRAMS)
@torch.no_grad()
def test_dynamic_sizes(program: Callable[..., Any]) -> None:
    check(program, "cpu", dynamic=True)


def half(x: Tensor, n: int) -> Results:
    x.add_(1)
    return x[x.shape[0] // 2 :], x[n], x[:, n:], x * 2


@TARGETS
@pytest.mark.parametrize(
    "program",
    [
        half,
        lambda x, n: x[n:].diagonal(),
        lambda x, n: x.as_strided((2,), (1,), n),
        lambda x, n: (x[n:].t(), x + n),
        lambda x, n: ((x * 2)[n:], (x * 2)[:, n]),
    ],
)
@torch.no_grad()
def test_views_that_begin_where_a_size_says(program: Callable[..., Any], target: str) -> None:
    """AOTAutograd makes views of arguments by the strides and the offset of what it gets."""
    check(program, target, 2, dynamic=True)


@TARGETS
def test_writing_to_a_view_after_a_graph_break(target: str) -> None:
    def function(x: Tensor) -> Results:
        y = x * 2
        v = y[1]
        torch._dynamo.graph_break()
        v.mul_(10)
        return y.sum(), y, v

    options = {"target": target, "cache": False, "regions": "never", "cuda_graphs": "off"}
    x = arguments()
    with torch.no_grad():
        found = torch.compile(function, backend=effcomp.backend, options=options)(x)
        compare(found, function(x))


def test_a_view_may_be_written_with_gradients() -> None:
    """Where the program itself needs none, nothing ends at a view that it made without."""
    parameter = nn.Parameter(torch.ones(4))
    y, v = compiled(row, "cpu")(arguments())
    v.add_(parameter)
    y.sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1, 1, 1, 1]


def trained(x: Tensor, w: Tensor) -> Results:
    h = nn.functional.linear(x, w)
    y = h.relu()
    return y, y.view(-1), h.t()[1:], y.detach(), h.sum()


@TARGETS
def test_gradients(target: str) -> None:
    run, sides = compiled(trained, target), []
    for function in (run, trained):
        x = arguments().requires_grad_()
        w = WEIGHT.clone().requires_grad_()
        results = function(x, w)
        sum((r.sin().sum() for r in results if r.requires_grad), torch.zeros(())).backward()
        sides.append(([r.detach() for r in results], (x.grad, w.grad)))
    compare(sides[0][0], sides[1][0])
    torch.testing.assert_close(sides[0][1], sides[1][1])


def test_gradients_share_nothing() -> None:
    """Whoever gets a gradient adds the next one to it in place."""
    a, b = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(12))
    compiled(lambda x: (x + a.view(-1) + b).sin().sum(), "cpu")(torch.ones(12)).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.untyped_storage().data_ptr() != b.grad.untyped_storage().data_ptr()


# Random programs.


def strides_that_matter(tensor: Tensor) -> list[int]:
    """Without those of dims of size 1: some of torch's fake tensors have others than its own."""
    return [step for size, step in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]


def _cut(t: Tensor, n: int) -> Tensor:
    return t[..., n % t.shape[-1] :]


STEPS: dict[str, Callable[[Tensor, int], Tensor | Sequence[Tensor]]] = {
    "double": lambda t, n: t * 2,
    "sine": lambda t, n: t.sin(),
    "same": lambda t, n: t * 1,
    "clone": lambda t, n: t.clone(),
    "detach": lambda t, n: t.detach(),
    "turn": lambda t, n: t.transpose(0, -1),
    "flat": lambda t, n: t.reshape(-1),
    "row": lambda t, n: t[n % t.shape[0]][None],
    "cut": _cut,
    "every other": lambda t, n: t[..., ::2],
    "halves": lambda t, n: t.chunk(2, n % t.ndim),
    "expand": lambda t, n: t.expand(2, *t.shape) if t.ndim < 4 else t,
    "unsqueeze": lambda t, n: t.unsqueeze(n % (t.ndim + 1)) if t.ndim < 5 else t,
    "diagonal": lambda t, n: t.diagonal() if t.ndim == 2 else t,
    "total": lambda t, n: t.sum(0, keepdim=True),
    "join": lambda t, n: torch.cat([t, t]) if t.numel() < 100 else t,
    "write": lambda t, n: (t * 1).mul_(n),
}


@settings(max_examples=60, deadline=None)
@given(
    # What is done to which of the last values, and a number for it.
    steps=st.lists(
        st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 2), st.integers(0, 11)),
        min_size=2,
        max_size=7,
    ),
    returned=st.lists(st.integers(0, 7), min_size=2, max_size=4),
    target=st.sampled_from(["cpu", "cuda:90"]),
)
@torch.no_grad()
def test_random_programs(
    steps: list[tuple[str, int, int]], returned: list[int], target: str
) -> None:
    def program(x: Tensor) -> Results:
        made = [x]
        for name, back, n in steps:
            found = STEPS[name](made[-1 - back % len(made)], n)
            made += [found] if isinstance(found, Tensor) else found
        return tuple(made[-1 - back % len(made)] for back in returned)

    check(program, target, strides=strides_that_matter)
