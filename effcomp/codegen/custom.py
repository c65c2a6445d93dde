"""Registered ops: a kernel that their author wrote, or the calls of their reference."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from effcomp.codegen.groups import add_launch
from effcomp.codegen.kernel import KernelLaunch
from effcomp.codegen.layout import is_row_major, strides_of
from effcomp.codegen.library import library
from effcomp.codegen.lowering import Lowering
from effcomp.codegen.triton.launch import POINTER_TYPES
from effcomp.codegen.triton.written import module_text, parameters
from effcomp.errors import EffcompError, LoweringError
from effcomp.ir import Dim, Op, TensorType, Value
from effcomp.plan.schema import AtenCall, KernelParam, TagArg, TritonKernel
from effcomp.plugins import REGISTRY
from effcomp.rewrite import Refused


def launch(
    kernel: Any,
    args: Sequence[Value | Dim],
    *,
    grid: Dim | tuple[Dim, ...],
    constants: Mapping[str, bool | int | float | str] | None = None,
    function: str = "",
    num_warps: int = 4,
    num_stages: int = 2,
) -> KernelLaunch:
    """One launch of a Triton kernel: what the emitter of an op returns.

    `kernel` is a `@triton.jit` function, or the text of a module and the name of its `function`.
    `args` stand for the parameters in order: an operand or a result of the op, or a size;
    `constants` are the constexpr ones by name. `grid` counts programs, in up to three dims. All
    tensors come row-major. Raises LoweringError where arguments and parameters do not fit.
    """
    source, name = (kernel, function) if isinstance(kernel, str) else module_text(kernel)
    fixed = dict(constants or {})
    names = parameters(source, name)
    if missing := [n for n, constexpr in names.items() if constexpr and n not in fixed]:
        raise LoweringError(f"kernel {name} needs the constant {missing[0]!r}")
    if unknown := [n for n in fixed if n not in names]:
        raise LoweringError(f"kernel {name} has no parameter {unknown[0]!r}")
    given = [n for n in names if n not in fixed]
    if len(given) != len(args):
        raise LoweringError(
            f"kernel {name} takes {len(given)} arguments ({', '.join(given)}), got {len(args)}"
        )
    types = dict(zip(given, map(_param_type, args), strict=True))
    params = tuple(KernelParam(n, types.get(n, "constexpr")) for n in names)
    # The plan gives constants in the order of the parameters.
    ordered = tuple((n, fixed[n]) for n in names if n in fixed)
    digest = hashlib.sha256(repr((source, params, ordered, num_warps, num_stages)).encode())
    sizes = grid if isinstance(grid, tuple) else (grid,)
    if not 1 <= len(sizes) <= 3:
        raise LoweringError(f"kernel {name}: a grid has one to three dims, not {len(sizes)}")
    x, y, z = (*sizes, 1, 1)[:3]
    triton = TritonKernel(
        name, source, params, ordered, digest.hexdigest()[:32], num_warps, num_stages
    )
    return KernelLaunch(triton, tuple(args), (x, y, z))


def _param_type(arg: Value | Dim) -> str:
    if not isinstance(arg, Value):
        return "i64"
    if not isinstance(arg.type, TensorType):
        raise LoweringError(f"%{arg.hint} is a {arg.type}: pass its expression, `value.type.expr`")
    if arg.dtype not in POINTER_TYPES:
        raise LoweringError(f"a Triton kernel cannot take {arg.type}")
    return POINTER_TYPES[arg.dtype]


def custom(low: Lowering, op: Op) -> None:
    """Launch the kernel of a registered op; where it has none or refuses, run its reference."""
    emit = REGISTRY.ops[op.name].emitters.get(low.target.kind)
    if emit is None:
        return library(low, op)
    # Kernels written by hand step through memory row by row.
    plain = replace(
        op, operands=tuple(map(_plain, op.operands)), results=tuple(map(_plain, op.results))
    )
    made = _emitted(low, plain, emit)
    if isinstance(made, Refused):
        where = f" ({op.loc})" if op.loc else ""
        low.draft.note(f"{op.name} runs as library calls{where}: {made.reason or 'refused'}")
        return library(low, op)
    draft = low.draft
    for given, wanted in zip(op.operands, plain.operands, strict=True):
        if wanted is not given:
            _copy_row_major(low, given, wanted)
    add_launch(low, plain, made, op.name)
    for wanted, result in zip(op.results, plain.results, strict=True):
        if wanted is not result:
            draft.copy(draft.buffer(result), draft.arena(wanted), label="layout")


def _emitted(low: Lowering, op: Op, emit: Any) -> KernelLaunch | Refused:
    try:
        made = emit(op, low.target)
    except EffcompError as error:
        raise low.error(op, f"its emitter failed: {error}") from error
    except Exception as error:
        raise low.error(op, f"its emitter failed: {type(error).__name__}: {error}") from error
    if isinstance(made, Refused):
        return made
    if not isinstance(made, KernelLaunch):
        raise low.error(
            op, f"its emitter returned {made!r}, neither effcomp.launch(...) nor Refused(reason)"
        )
    known = {*op.operands, *op.results}
    if any(isinstance(a, Value) and a not in known for a in made.args):
        raise low.error(op, "its kernel takes a value that is neither an operand nor a result")
    if unwritten := [r for r in op.results if r not in made.args and low.is_read(r)]:
        raise low.error(op, f"its kernel does not take the result {unwritten[0].type}")
    return made


def _plain(value: Value) -> Value:
    """The value itself where it lies row by row, else one like it that does."""
    if not isinstance(value.type, TensorType) or is_row_major(value.shape, strides_of(value)):
        return value
    return replace(value, strides=None)


def _copy_row_major(low: Lowering, value: Value, copy: Value) -> None:
    kwargs = (("memory_format", TagArg("memory_format", "contiguous_format")),)
    returned = (low.draft.returned(copy),)
    call = AtenCall("aten.clone.default", (low.draft.arg(value),), returned, kwargs)
    low.draft.call(call, label="layout")
