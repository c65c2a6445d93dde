"""A plan: everything the runtime needs to run a compiled graph, as data.

Sizes are ints or Python expressions over the plan's symbols (`"s0 * 4 // 2"`), as text.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

SCHEMA_VERSION = 1
# What reads a plan validates all of it at once: validators of the parts wait for who makes parts.
_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants", defer_build=True)

Expr = int | str


@dataclass(frozen=True, config=_STRICT)
class TensorSpec:
    """Element type ("f32", "bf16", ...), shape and strides in elements."""

    dtype: str
    shape: tuple[Expr, ...]
    strides: tuple[Expr, ...]


# What stands in an argument list.


@dataclass(frozen=True, config=_STRICT)
class BufferArg:
    """The tensor in buffer `id`."""

    id: int
    kind: Literal["buffer"] = "buffer"


@dataclass(frozen=True, config=_STRICT)
class SizeArg:
    """The value of a size expression, as an int."""

    expr: Expr
    kind: Literal["size"] = "size"


@dataclass(frozen=True, config=_STRICT)
class ConstArg:
    """A Python constant."""

    value: bool | int | float | str | None
    kind: Literal["const"] = "const"


@dataclass(frozen=True, config=_STRICT)
class TagArg:
    """A torch constant: tag "dtype", "layout", "memory_format" or "device" and its name.

    A device named "plan" is the device that the plan runs on.
    """

    tag: str
    value: str
    kind: Literal["tag"] = "tag"


@dataclass(frozen=True, config=_STRICT)
class ListArg:
    """A list of arguments."""

    items: tuple["Arg", ...]
    kind: Literal["list"] = "list"


Arg = Annotated[BufferArg | SizeArg | ConstArg | TagArg | ListArg, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class AtenCall:
    """One call of a torch operator, such as "aten.mm.default".

    In a step, `results` are buffer ids of the plan; in a region they are ids local to the region.
    A None result is dropped.
    """

    target: str
    args: tuple[Arg, ...]
    results: tuple[int | None, ...]
    kwargs: tuple[tuple[str, Arg], ...] = ()


# Buffers: where tensors live.


@dataclass(frozen=True, config=_STRICT)
class InputPlace:
    """The caller's tensor at port `index`."""

    index: int
    kind: Literal["input"] = "input"


@dataclass(frozen=True, config=_STRICT)
class ConstantPlace:
    """Result `index` of the prologue."""

    index: int
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, config=_STRICT)
class ArenaPlace:
    """A span of the arena, alive from step `first` to step `last`, both included."""

    first: int
    last: int
    kind: Literal["arena"] = "arena"


@dataclass(frozen=True, config=_STRICT)
class OutputPlace:
    """Fresh memory for every call, handed to the caller."""

    kind: Literal["output"] = "output"


@dataclass(frozen=True, config=_STRICT)
class CallPlace:
    """Whatever tensor a torch operator or a region returns; dropped after step `last`.

    Between the calls of one op nobody states a type: such a buffer's spec has dtype "" and takes
    any tensor as it comes.
    """

    last: int
    kind: Literal["call"] = "call"


@dataclass(frozen=True, config=_STRICT)
class ViewPlace:
    """The memory of buffer `of`, `offset` elements in, under the buffer's own shape and strides."""

    of: int
    offset: Expr = 0
    kind: Literal["view"] = "view"


Place = Annotated[
    InputPlace | ConstantPlace | ArenaPlace | OutputPlace | CallPlace | ViewPlace,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, config=_STRICT)
class Buffer:
    """A tensor of the plan; buffer ids are positions in `Plan.buffers`."""

    spec: TensorSpec
    place: Place
    name: str = ""


# Kernels and steps.


@dataclass(frozen=True, config=_STRICT)
class KernelParam:
    """A kernel parameter: type "*bf16", "i32", "i64", "f32" or "constexpr"."""

    name: str
    type: str


@dataclass(frozen=True, config=_STRICT)
class TritonKernel:
    """Triton source. `function` is the entry; constants are its constexpr arguments.

    `digest` identifies equal kernels: source, constants and options.
    """

    function: str
    source: str
    params: tuple[KernelParam, ...]
    constants: tuple[tuple[str, bool | int | float | str], ...]
    digest: str
    num_warps: int = 4
    num_stages: int = 2
    kind: Literal["triton"] = "triton"


@dataclass(frozen=True, config=_STRICT)
class RegionKernel:
    """A fused region for the CPU: a line of ATen calls that Inductor's C++ backend compiles.

    Local ids 0..inputs-1 are the region's inputs; `outputs` are local ids.
    """

    function: str
    calls: tuple[AtenCall, ...]
    inputs: int
    outputs: tuple[int, ...]
    digest: str
    kind: Literal["region"] = "region"


Kernel = Annotated[TritonKernel | RegionKernel, Field(discriminator="kind")]


@dataclass(frozen=True, config=_STRICT)
class Launch:
    """Run a Triton kernel. `args` follow the non-constexpr params; `grid` counts programs."""

    kernel: str  # digest
    args: tuple[Arg, ...]
    grid: tuple[Expr, Expr, Expr]
    label: str = ""
    kind: Literal["launch"] = "launch"


@dataclass(frozen=True, config=_STRICT)
class RunRegion:
    """Run a region kernel: reads buffers `inputs`, fills buffers `outputs`."""

    kernel: str  # digest
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    label: str = ""
    kind: Literal["region"] = "region"


@dataclass(frozen=True, config=_STRICT)
class CallStep:
    """Run a torch operator.

    `out` names the overload that writes into `call.results` (placed buffers), or is "" where the
    operator returns new tensors: those go to CallPlace buffers, or are copied where a result's
    buffer has a place of its own.
    """

    call: AtenCall
    out: str = ""
    label: str = ""
    kind: Literal["call"] = "call"


Step = Annotated[Launch | RunRegion | CallStep, Field(discriminator="kind")]


# Ports, symbols, outputs.


@dataclass(frozen=True, config=_STRICT)
class Port:
    """One argument of the compiled function: a tensor (`spec`) or a size (`size`)."""

    name: str
    spec: TensorSpec | None = None
    size: Expr | None = None
    weight: bool = False
    mutated: bool = False


@dataclass(frozen=True, config=_STRICT)
class SymbolSource:
    """Where a size symbol is read: dim `dim` of port `port`, or the size port itself (-1)."""

    symbol: str
    port: int
    dim: int = -1


@dataclass(frozen=True, config=_STRICT)
class OutputRef:
    """One result of the compiled function: a buffer, a size, or nothing."""

    buffer: int | None = None
    size: Expr | None = None


@dataclass(frozen=True, config=_STRICT)
class Cost:
    """What one step moves and computes, for reports: bytes and FLOPs, as size expressions.

    `op` is the position of the step's op in the program that was lowered; -1 where it has none.
    """

    label: str
    ops: tuple[str, ...]
    bytes: Expr
    flops: Expr
    loc: str = ""
    scope: str = ""
    op: int = -1


@dataclass(frozen=True, config=_STRICT)
class Plan:
    """A compiled graph as data. Buffers are numbered by position; steps run in order.

    Arena buffers get their places one after the other: those of `arena_order` first, then the
    others, the largest first. Any order is right; this one makes the arena smaller for the sizes of
    the call that was traced. It is empty where none was found that does.
    """

    name: str
    target: str  # "cuda:90", "cpu"
    ports: tuple[Port, ...]
    symbols: tuple[SymbolSource, ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    outputs: tuple[OutputRef, ...]
    costs: tuple[Cost, ...] = ()  # one a step
    prologue: "Plan | None" = None
    prologue_ports: tuple[int, ...] = ()  # ports of this plan that the prologue's ports read
    arena_order: tuple[int, ...] = ()  # buffer ids
    notes: tuple[str, ...] = ()  # fallbacks and refusals worth telling
    version: int = SCHEMA_VERSION
