"""Run a group's kernel in the interpreter, and compare it with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.codegen.triton import emit_group
from effcomp.ir import Dim, Graph, Op, Value, parse_graph, verify
from effcomp.reference import evaluate
from effcomp.runtime.interpreter import InterpretedKernel
from effcomp.runtime.sources import load_function
from effcomp.target import TARGETS, Target

H200 = TARGETS["cuda:90"]
DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8,
    "u8": torch.uint8, "bool": torch.bool,
}  # fmt: skip
# Relative and absolute, by the dtype that is stored.
TOLERANCES = {
    "f64": (1e-12, 1e-13), "f32": (3e-6, 1e-6), "f16": (2e-3, 1e-3), "bf16": (2e-2, 1e-2),
}  # fmt: skip


def group_graph(kind: str, params: str, body: str) -> Graph:
    """A graph of one `kind` group: `params` and `body` are IR text, the body ends in `return`."""
    lines = [line.strip() for line in body.strip().splitlines()]
    types: dict[str, str] = {}
    for line in lines[:-1]:
        left, _, right = line.partition(" = ")
        kinds = right.rpartition(" : ")[2].partition(" loc ")[0]
        types[left.strip()] = kinds
    for part in _top_level(params):
        name, _, type_text = part.partition(":")
        types[name.strip()] = type_text.strip().partition(" strides ")[0]
    names = [part.partition(":")[0].strip() for part in _top_level(params)]
    returned = [n.strip() for n in lines[-1].removeprefix("return").split(",")]
    results = ", ".join(f"%r{i}" for i in range(len(returned)))
    inner_types = ", ".join(types[n] for n in returned)
    inner = ", ".join(f"%p{i}: {types[n]}" for i, n in enumerate(names))
    renamed = {n: f"%p{i}" for i, n in enumerate(names)}
    text = [f"graph @g({params}) {{"]
    text.append(f"{results} = fused.{kind}({', '.join(names)}) : {inner_types} @body({inner}) {{")
    text += [_rename(line, renamed) for line in lines]
    text += ["}", f"return {results}", "}"]
    graph = parse_graph("\n".join(text))
    verify(graph)
    return graph


def _rename(line: str, names: Mapping[str, str]) -> str:
    words: list[str] = []
    word = ""
    for c in f"{line} ":
        if c.isalnum() or c in "%_.":
            word += c
            continue
        words.append(names.get(word, word) + c)
        word = ""
    return "".join(words).rstrip()


def _top_level(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "[") - (c == "]")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [p for p in [*parts, text[start:]] if p.strip()]


def emitted(op: Op, target: Target = H200) -> KernelLaunch:
    launch = emit_group(op, target)
    assert isinstance(launch, KernelLaunch), launch
    return launch


def refusal(graph: Graph) -> str:
    found = emit_group(graph.ops[0], H200)
    assert isinstance(found, Refusal), "a kernel was made"
    return found.reason


def run_op(op: Op, operands: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Launch the kernel of one group in the interpreter."""
    launch = emitted(op)
    sizes = _sizes(op.operands, operands)
    results = [_empty(v, sizes) for v in op.results]
    tensors = dict(zip((*op.operands, *op.results), (*operands, *results), strict=True))
    arguments = [tensors[a] if isinstance(a, Value) else _number(a, sizes) for a in launch.args]
    x, y, z = (_number(g, sizes) for g in launch.grid)
    kernel = InterpretedKernel(launch.kernel, *load_function(launch.kernel))
    kernel.bind(arguments, (), (x, y, z))([])
    return results


def check(graph: Graph, *args: torch.Tensor, tolerance: tuple[float, float] | None = None) -> None:
    """The kernel's results are the reference's, within the stored dtype's tolerance."""
    expected = evaluate(graph, args)
    found = run_op(graph.ops[0], args)
    for given, wanted in zip(found, expected, strict=True):
        assert isinstance(wanted, torch.Tensor)
        assert given.shape == wanted.shape
        assert given.dtype == wanted.dtype
        if not wanted.dtype.is_floating_point:
            torch.testing.assert_close(given, wanted, rtol=0, atol=0)
            continue
        name = next(k for k, v in DTYPES.items() if v == wanted.dtype)
        rtol, atol = tolerance or TOLERANCES[name]
        torch.testing.assert_close(given, wanted, rtol=rtol, atol=atol, equal_nan=True)


def _sizes(values: Sequence[Value], tensors: Sequence[torch.Tensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for value, tensor in zip(values, tensors, strict=True):
        for expr, size in zip(value.shape, tensor.shape, strict=True):
            if not isinstance(expr, int) and expr.is_Symbol:
                sizes[str(expr)] = size
    return sizes


def _number(expr: Dim, sizes: Mapping[str, int]) -> int:
    if isinstance(expr, int):
        return expr
    return int(expr.subs({s: sizes[s.name] for s in expr.free_symbols}))


def _empty(value: Value, sizes: Mapping[str, int]) -> torch.Tensor:
    shape = [_number(s, sizes) for s in value.shape]
    fill = 7 if not DTYPES[value.dtype].is_floating_point else float("nan")
    if value.strides is None:
        return torch.full(shape, fill, dtype=DTYPES[value.dtype])
    strides = [_number(s, sizes) for s in value.strides]
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    flat = torch.full((reach,), fill, dtype=DTYPES[value.dtype])
    return flat.as_strided(shape, strides)


def tensor(dtype: str, *shape: int) -> torch.Tensor:
    """Reproducible contents: normal floats, small integers."""
    kind = DTYPES[dtype]
    generator = torch.Generator().manual_seed(sum(shape) + len(dtype))
    if dtype == "bool":
        return torch.randint(0, 2, shape, generator=generator).bool()
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(kind)
    low = 0 if dtype == "u8" else -9
    return torch.randint(low, 10, shape, generator=generator).to(kind)
