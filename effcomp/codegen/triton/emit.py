"""Print a tile kernel as Triton source: one statement a line, no decisions."""

from collections.abc import Iterable, Mapping
from typing import Any

import sympy
from sympy.printing.str import StrPrinter

from effcomp.codegen.tile.ir import (
    Accumulate,
    Axis,
    Bound,
    Compute,
    Inside,
    Load,
    Loop,
    Position,
    Product,
    Reduce,
    Spread,
    Statement,
    Store,
    TileKernel,
    positions_of,
    results_of,
)
from effcomp.codegen.triton.arithmetic import DTYPES, arithmetic_line, literal, operand_text
from effcomp.codegen.triton.templates_text import functions_text
from effcomp.ir import Dim
from effcomp.ir.dims import FloorDiv, Mod
from effcomp.ir.types import FLOATS

INDENT = "    "


def emit_source(kernel: TileKernel) -> str:
    """The kernel as an importable module: prelude functions, then the kernel."""
    return _Printer(kernel).module()


def size_symbols(kernel: TileKernel) -> tuple[sympy.Symbol, ...]:
    """The sizes the kernel reads, in the order of its size parameters."""
    own = {a.name for a in kernel.axes}
    own |= {r.name for s in kernel.walk() for r in results_of(s)}
    found: dict[sympy.Symbol, None] = {}
    extents = [a.extent for a in kernel.axes]
    for position in (*extents, *(p for s in kernel.walk() for p in positions_of(s))):
        symbols = sympy.sympify(position).free_symbols
        found |= dict.fromkeys(sorted(symbols, key=lambda s: s.name))
    return tuple(s for s in found if s.name not in own)


def block_name(axis: Axis) -> str:
    return f"{axis.name.upper()}_BLOCK"


def _one_block(axis: Axis) -> bool:
    return isinstance(axis.extent, int) and axis.is_vector and axis.extent <= axis.block


class _PositionPrinter(StrPrinter):
    """Positions in Triton: sizes under their parameter names, powers as products."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names

    def _print_Symbol(self, expr: Any) -> str:
        return self.names.get(expr.name, expr.name)

    def _print_Pow(self, expr: Any, rational: bool = False) -> str:
        base = self._term(expr.base)
        return f"({' * '.join([base] * int(expr.exp))})"

    def parenthesize(self, item: Any, level: int, strict: bool = False) -> str:
        """As in sympy, but divisions bring their own parentheses."""
        if isinstance(item, (FloorDiv, Mod)):
            return self._print(item)
        return super().parenthesize(item, level, strict)

    def _term(self, expr: Any) -> str:
        text = self._print(expr)
        return text if expr.is_Atom and not text.startswith("-") else f"({text})"

    def _print_FloorDiv(self, expr: Any) -> str:
        return f"({self._term(expr.args[0])} // {self._term(expr.args[1])})"

    def _print_Mod(self, expr: Any) -> str:
        return f"({self._term(expr.args[0])} % {self._term(expr.args[1])})"

    def _print_Max(self, expr: Any) -> str:
        return _nested("tl.maximum", [self._print(a) for a in expr.args])

    def _print_Min(self, expr: Any) -> str:
        return _nested("tl.minimum", [self._print(a) for a in expr.args])


def _nested(function: str, parts: list[str]) -> str:
    found = parts[0]
    for part in parts[1:]:
        found = f"{function}({found}, {part})"
    return found


class _Printer:
    """One kernel on its way to text: the lines, and the prelude functions they call."""

    def __init__(self, kernel: TileKernel) -> None:
        self.kernel = kernel
        self.sizes = size_symbols(kernel)
        names = {s.name: f"n{i}" for i, s in enumerate(self.sizes)}
        self.positions = _PositionPrinter(names)
        self.size_names = tuple(names.values())
        self.axes_by_symbol: dict[str, tuple[str, ...]] = {
            a.name: (a.name,) if a.is_vector else () for a in kernel.axes
        }
        self.calls: dict[str, set[str]] = {"arithmetic": set(), "matmul": set()}
        self.lines: list[str] = []

    def module(self) -> str:
        self._axes()
        self._statements(self.kernel.body, INDENT)
        functions: list[str] = []
        for template, calls in self.calls.items():
            functions += functions_text(template, calls) if calls else []
        header = [f"# {line}" for line in self.kernel.source]
        imports = ["import triton", "import triton.language as tl"]
        blocks = [f"{block_name(a)}: tl.constexpr" for a in self.kernel.axes if a.is_vector]
        params = [*(p.name for p in self.kernel.pointers), *self.size_names, *blocks]
        entry = ["@triton.jit", f"def {self.kernel.name}({', '.join(params)}):", *self.lines]
        parts = ["\n".join([*header, *imports]), *functions, "\n".join(entry)]
        return "\n\n\n".join(parts) + "\n"

    # Axes.

    def _axes(self) -> None:
        grid = [a for a in self.kernel.axes if a.spread is Spread.GRID]
        if grid:
            wide = ".to(tl.int64)" if self.kernel.wide else ""
            self._line(INDENT, f"program = tl.program_id(0){wide}")
        if self.kernel.grouped:
            grid = self._grouped(grid)
        for i, a in reversed(list(enumerate(grid))):
            if i and _one_block(a):
                self._line(INDENT, f"{a.name} = {self._lanes(a)}")
            elif i:
                count = self._count(a)
                self._line(INDENT, f"{a.name}_program = program % {count}")
                self._line(INDENT, f"program = program // {count}")
                self._start(a, f"{a.name}_program")
            else:
                self._start(a, "program")
        for a in self.kernel.axes:
            if a.spread is Spread.WHOLE:
                self._line(INDENT, f"{a.name} = {self._lanes(a) or '0'}")

    def _grouped(self, grid: list[Axis]) -> list[Axis]:
        """The last two axes in grouped order; returns those that are left."""
        *rest, m, n = grid
        counts = f"{self._count(m)}, {self._count(n)}"
        program = "program"
        if rest:
            self._line(INDENT, f"tiles = {self._count(m)} * {self._count(n)}")
            program = "program % tiles"
        self.calls["matmul"].add("grouped_order")
        order = f"grouped_order({program}, {counts}, {self.kernel.grouped})"
        self._line(INDENT, f"m_program, n_program = {order}")
        if rest:
            self._line(INDENT, "program = program // tiles")
        for a in (m, n):
            self._start(a, f"{a.name}_program")
        return rest

    def _count(self, axis: Axis) -> str:
        if isinstance(axis.extent, int):
            return str(-(-axis.extent // axis.block))
        return f"tl.cdiv({self._position(axis.extent)}, {self._block(axis)})"

    def _start(self, axis: Axis, program: str) -> None:
        start = f"{program} * {block_name(axis)} + " if axis.is_vector else program
        self._line(INDENT, f"{axis.name} = {start}{self._lanes(axis)}")

    def _block(self, axis: Axis) -> str:
        return block_name(axis) if axis.is_vector else str(axis.block)

    def _lanes(self, axis: Axis) -> str:
        """The positions of a block, along the dimension that stands for the axis."""
        if not axis.is_vector:
            return ""
        vectors = self.kernel.vector_axes
        ones = ", ".join(":" if a is axis else "None" for a in vectors)
        index = f"[{ones}]" if len(vectors) > 1 else ""
        return f"tl.arange(0, {block_name(axis)}){index}"

    # Statements.

    def _statements(self, body: Iterable[Statement], indent: str) -> None:
        for statement in body:
            for result in results_of(statement):
                self.axes_by_symbol[result.name] = result.axes
            self._statement(statement, indent)

    def _statement(self, statement: Statement, indent: str) -> None:
        match statement:
            case Load(result=result):
                self._line(indent, f"{result.name} = {self._load(statement)}")
            case Store():
                self._line(indent, self._store(statement))
            case Position(result=result, expr=expr):
                self._line(indent, f"{result.name} = tl.cast({self._position(expr)}, tl.int64)")
            case Inside(result=result, bounds=bounds):
                self._line(indent, f"{result.name} = {self._bounds(bounds)}")
            case Compute(result=result):
                line = arithmetic_line(statement)
                self.calls["arithmetic"].update(line.calls)
                self._line(indent, f"{result.name} = {line.text}")
            case Reduce(result=result):
                self._line(indent, f"{result.name} = {self._reduce(statement)}")
            case Accumulate():
                self._line(indent, self._accumulate(statement))
            case Loop():
                self._loop(statement, indent)
            case Product(result=result):
                self._line(indent, f"{result.name} = {self._product(statement)}")

    def _load(self, load: Load) -> str:
        varying = self._axes_of(load.offset)
        missing = [a for a in load.result.axes if a not in varying]
        address = self._address(load.pointer.name, load.offset, missing)
        arguments = [address]
        if load.mask:
            arguments += [f"mask={self._bounds(load.mask)}", f"other={literal(load.other)}"]
        text = f"tl.load({', '.join(arguments)})"
        stored, computed = load.pointer.dtype, load.result.dtype
        return text if stored == computed else f"{text}.to({DTYPES[computed]})"

    def _store(self, store: Store) -> str:
        value = operand_text(store.value)
        if store.value.dtype != store.pointer.dtype:
            value = f"{value}.to({DTYPES[store.pointer.dtype]})"
        arguments = [self._address(store.pointer.name, store.offset, []), value]
        if store.mask:
            arguments.append(f"mask={self._bounds(store.mask)}")
        return f"tl.store({', '.join(arguments)})"

    def _address(self, pointer: str, offset: Any, missing: list[str]) -> str:
        terms = [] if offset == 0 else [self._position(offset)]
        text = " + ".join([*terms, *(f"0 * {a}" for a in missing)])
        if not text:
            return pointer
        return f"{pointer} + {text if text.isidentifier() else f'({text})'}"

    def _bounds(self, bounds: tuple[Bound, ...]) -> str:
        parts: list[str] = []
        for bound in bounds:
            position = self._position(bound.position)
            if bound.low:
                parts.append(f"{position} >= 0")
            if bound.high is not None:
                parts.append(f"{position} < {self._position(bound.high)}")
        return parts[0] if len(parts) == 1 else " & ".join(f"({p})" for p in parts)

    def _reduce(self, reduce: Reduce) -> str:
        vectors = [a.name for a in self.kernel.vector_axes]
        place = str(vectors.index(reduce.axis)) + (", keep_dims=True" if len(vectors) > 1 else "")
        x, dtype = reduce.operand.name, reduce.operand.dtype
        narrow = "" if dtype in ("f32", "f64", "i32", "i64") else f".to({DTYPES[dtype]})"
        match reduce.kind:
            case "sum":
                return f"tl.sum({x}, {place}){narrow}"
            case "peak":
                return f"tl.max({x}, {place})"
            case "any":
                return f"tl.max({x}.to(tl.int32), {place}) != 0"
            case "all":
                return f"tl.min({x}.to(tl.int32), {place}) != 0"
            case "amax" | "amin" if dtype not in FLOATS:
                return f"tl.{reduce.kind[1:]}({x}, {place}){narrow}"
            case kind:
                combine = {"amax": "nan_maximum", "amin": "nan_minimum", "prod": "multiply"}[kind]
                self.calls["arithmetic"].add(combine)
                axis, _, keep = place.partition(", ")
                return f"tl.reduce({', '.join(filter(None, (x, axis, combine, keep)))})"

    def _accumulate(self, step: Accumulate) -> str:
        target, x = step.targets[0].name, operand_text(step.operand)
        match step.kind:
            case "sum":
                return f"{target} = {target} + {x}"
            case "prod":
                return f"{target} = {target} * {x}"
            case "any":
                return f"{target} = {target} | {x}"
            case "all":
                return f"{target} = {target} & {x}"
            case "softmax":
                self.calls["arithmetic"].add("online_softmax")
                peak, total = (t.name for t in step.targets)
                return f"{peak}, {total} = online_softmax({peak}, {total}, {x})"
            case kind:
                name = "maximum" if kind in ("amax", "peak") else "minimum"
                if step.targets[0].dtype not in FLOATS or kind == "peak":
                    return f"{target} = tl.{name}({target}, {x})"
                self.calls["arithmetic"].add(f"nan_{name}")
                return f"{target} = nan_{name}({target}, {x})"

    def _product(self, p: Product) -> str:
        """A call of the template: pointers to the first elements, masks, then keywords."""
        self.calls["matmul"].add(p.template)
        a, b = p.sides
        masks = [self._bounds(side.mask) if side.mask else "None" for side in p.sides]
        even = isinstance(p.depth, int) and p.depth % p.block == 0
        arguments = [
            self._address(a.pointer.name, a.offset, []),
            self._address(b.pointer.name, b.offset, []),
            *(masks if p.template == "matmul_block" else masks[1:]),
            self._position(p.depth),
            f"a_step={self._position(a.step)}",
            f"b_step={self._position(b.step)}",
            f"BLOCK_K={p.block}",
            f"EVEN_K={even}",
        ]
        if p.template == "matmul_block":
            arguments.append(f'PRECISION="{p.precision}"')
        return f"{p.template}({', '.join(arguments)})"

    def _loop(self, loop: Loop, indent: str) -> None:
        axis = self.kernel.axis(loop.axis)
        shape = ", ".join(block_name(a) for a in self.kernel.vector_axes)
        for a in loop.accumulators:
            init = f"tl.full([{shape}], {literal(a.init.value)}, {DTYPES[a.value.dtype]})"
            self._line(indent, f"{a.value.name} = {init}")
        start, inner = f"{axis.name}_start", indent + INDENT
        turns = f"0, {self._position(axis.extent)}, {self._block(axis)}"
        walk = f"range({turns})"
        if not axis.is_vector and isinstance(axis.extent, int):
            # Unrolled, so that the loads of all turns are under way at once.
            walk = f"tl.range({turns}, loop_unroll_factor={axis.extent})"
        self._line(indent, f"for {start} in {walk}:")
        lanes = self._lanes(axis)
        self._line(inner, f"{axis.name} = {start}{f' + {lanes}' if lanes else ''}")
        self._statements(loop.body, inner)

    def _position(self, position: Dim | sympy.Expr) -> str:
        return self.positions.doprint(sympy.sympify(position))

    def _axes_of(self, offset: Any) -> set[str]:
        names = {s.name for s in sympy.sympify(offset).free_symbols}
        return {a for n in names for a in self.axes_by_symbol.get(n, ())}

    def _line(self, indent: str, text: str) -> None:
        self.lines.append(indent + text)
