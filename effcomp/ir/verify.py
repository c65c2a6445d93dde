"""Check a graph's invariants and point at the first op that breaks one."""

from effcomp.errors import VerifyError
from effcomp.ir.core import Graph, Op, Value
from effcomp.ir.dims import same_shape
from effcomp.ir.levels import Level, refused_at
from effcomp.ir.spec import spec_of
from effcomp.ir.text import name_values, print_op
from effcomp.ir.types import TensorType, Type


def verify(graph: Graph, level: Level | None = None) -> None:
    """Raise VerifyError, located, unless the graph is well-formed (and legal at `level`)."""
    defined = set(graph.params)
    if len(defined) != len(graph.params):
        raise VerifyError(f"@{graph.name} names one value as two params")
    for index, op in enumerate(graph.ops):
        try:
            _check_op(op, defined, level)
        except VerifyError as error:
            raise VerifyError(f"{error}\n{excerpt(graph, index)}") from None
        defined.update(op.results)
    if missing := [v for v in graph.outputs if v not in defined]:
        raise VerifyError(f"@{graph.name} returns {len(missing)} value(s) it never defines")
    if graph.output_strides and len(graph.output_strides) != len(graph.outputs):
        raise VerifyError(
            f"@{graph.name} has {len(graph.outputs)} outputs, {len(graph.output_strides)} layouts"
        )


def _check_op(op: Op, defined: set[Value], level: Level | None) -> None:
    spec = spec_of(op)
    for position, operand in enumerate(op.operands):
        if operand not in defined:
            raise VerifyError(f"{op.name}: operand {position} is used before it is defined")
    if again := [r for r in op.results if r in defined]:
        raise VerifyError(f"{op.name}: result %{again[0].hint} is defined twice")
    inferred = spec.result_types(op.operands, op.attrs, op.body)
    declared = tuple(r.type for r in op.results)
    if len(inferred) != len(declared) or not all(map(_same_type, inferred, declared)):
        raise VerifyError(f"{op.name}: results are {_show(declared)}, inferred {_show(inferred)}")
    if level is not None and (reason := refused_at(level, op)):
        raise VerifyError(f"{op.name} is not legal at level {level.value!r}: {reason}")
    if op.body is not None:
        verify(op.body)


def _same_type(a: Type, b: Type) -> bool:
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        return a.dtype == b.dtype and same_shape(a.shape, b.shape)
    return a == b


def _show(types: tuple[Type, ...]) -> str:
    return f"({', '.join(map(str, types))})"


def excerpt(graph: Graph, index: int, around: int = 2) -> str:
    """The op at `index` with its neighbours, as errors show them."""
    names = name_values(graph)
    first = max(0, index - around)
    shown = graph.ops[first : index + around + 1]
    marks = (">" if first + i == index else " " for i in range(len(shown)))
    return "\n".join(
        f" {mark} {print_op(op, names)}" for mark, op in zip(marks, shown, strict=True)
    )
