"""Check a tile kernel's invariants and point at the first statement that breaks one."""

from typing import Any

import sympy

from effcomp.codegen.tile.ir import (
    Accumulate,
    Axis,
    Compute,
    Constant,
    Load,
    Loop,
    Operand,
    Product,
    Reduce,
    Spread,
    Statement,
    Store,
    TileKernel,
    TileValue,
    positions_of,
    results_of,
)
from effcomp.codegen.tile.text import print_statement
from effcomp.errors import VerifyError
from effcomp.ir import SPECS, Trait

_MIXED = frozenset({"cast", "tensor.where"})  # operands may differ in dtype


def verify_tile(kernel: TileKernel) -> None:
    """Raise VerifyError, with the statement, unless the kernel is well-formed."""
    names = [p.name for p in kernel.pointers]
    _require(len(set(names)) == len(names), kernel, "two pointers share a name")
    for axis in kernel.axes:
        power = axis.block > 0 and axis.block & (axis.block - 1) == 0
        _require(power, kernel, f"axis {axis.name} has blocks of {axis.block}, no power of two")
    _Verifier(kernel).block(kernel.body, {})


def _require(condition: bool, kernel: TileKernel, message: str) -> None:
    if not condition:
        raise VerifyError(f"tile @{kernel.name}: {message}")


class _Verifier:
    """One kernel: what each symbol may be, and where the loops are."""

    def __init__(self, kernel: TileKernel) -> None:
        self.kernel = kernel
        self.axes = {a.name: a for a in kernel.axes}
        self.values = {r.name for s in kernel.walk() for r in results_of(s)}
        self.open: set[str] = {a.name for a in kernel.axes if a.spread is not Spread.LOOP}

    def block(self, body: tuple[Statement, ...], defined: dict[str, TileValue]) -> None:
        """Check statements in order; `defined` gains what they define."""
        for statement in body:
            try:
                self._statement(statement, defined)
            except VerifyError as error:
                where = print_statement(statement)
                raise VerifyError(f"tile @{self.kernel.name}: {error}\n  {where}") from None
            if isinstance(statement, Loop):
                self._loop(statement, defined)
                continue
            for result in results_of(statement):
                if result.name in defined:
                    raise VerifyError(f"{result.name} is defined twice")
                defined[result.name] = result

    def _loop(self, loop: Loop, defined: dict[str, TileValue]) -> None:
        axis = self.axes.get(loop.axis)
        _require(
            axis is not None and axis.spread is Spread.LOOP,
            self.kernel,
            f"{loop.axis} is no loop axis",
        )
        defined |= {a.value.name: a.value for a in loop.accumulators}
        self.open.add(loop.axis)
        self.block(loop.body, dict(defined))
        self.open.discard(loop.axis)

    def _statement(self, statement: Statement, defined: dict[str, TileValue]) -> None:
        for position in positions_of(statement):
            self._position(position, defined)
        match statement:
            case Load(result=result, offset=offset, pointer=pointer):
                _check(not pointer.written, f"{pointer.name} is written, not read")
                _check(self._spans(result, offset, defined), "the result lacks an axis")
            case Store(pointer=pointer, offset=offset, value=value):
                _check(pointer.written, f"{pointer.name} is read, not written")
                self._operands((value,), defined)
                missing = set(_axes(value)) - self._axes_of(offset, defined)
                _check(not missing, f"the address does not vary along {sorted(missing)}")
            case Compute():
                self._compute(statement, defined)
            case Reduce(result=result, operand=operand, axis=axis):
                self._operands((operand,), defined)
                _check(axis in operand.axes, f"the operand does not vary along {axis}")
                _check(set(result.axes) == set(operand.axes) - {axis}, "the result's axes differ")
            case Accumulate(targets=targets, operand=operand):
                self._operands((*targets, operand), defined)
            case Product(sides=sides):
                read = all(not side.pointer.written for side in sides)
                _check(read, "a product reads what is written")
            case _:
                return

    def _compute(self, statement: Compute, defined: dict[str, TileValue]) -> None:
        spec = SPECS.get(statement.op)
        known = statement.op in ("cast", "round", "swap") or (
            spec is not None and Trait.ELEMENTWISE in spec.traits
        )
        _check(known, f"{statement.op} is not elementwise")
        self._operands(statement.operands, defined)
        given = {a for o in statement.operands for a in _axes(o)}
        _check(set(statement.result.axes) == given, "the result's axes are not the operands'")
        dtypes = {o.dtype for o in statement.operands}
        _check(len(dtypes) == 1 or statement.op in _MIXED, f"dtypes differ: {sorted(dtypes)}")

    def _operands(self, operands: tuple[Operand, ...], defined: dict[str, TileValue]) -> None:
        for operand in operands:
            if isinstance(operand, TileValue):
                same = defined.get(operand.name) == operand
                _check(same, f"{operand.name} is used before it is defined")

    def _position(self, position: Any, defined: dict[str, TileValue]) -> None:
        for symbol in _symbols(position):
            if symbol.name in self.axes:
                _check(symbol.name in self.open, f"{symbol.name} is used outside its loop")
            elif symbol.name in self.values:
                _check(symbol.name in defined, f"{symbol.name} is used before it is defined")
                integer = defined[symbol.name].dtype in ("i32", "i64")
                _check(integer, f"{symbol.name} is no integer")

    def _spans(self, result: TileValue, offset: Any, defined: dict[str, TileValue]) -> bool:
        return self._axes_of(offset, defined) <= set(result.axes)

    def _axes_of(self, position: Any, defined: dict[str, TileValue]) -> set[str]:
        found: set[str] = set()
        for symbol in _symbols(position):
            axis: Axis | None = self.axes.get(symbol.name)
            if axis is not None:
                found |= {axis.name} if axis.is_vector else set()
            elif symbol.name in defined:
                found |= set(defined[symbol.name].axes)
        return found


def _symbols(position: Any) -> set[sympy.Symbol]:
    return sympy.sympify(position).free_symbols


def _axes(operand: Operand) -> tuple[str, ...]:
    return () if isinstance(operand, Constant) else operand.axes


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise VerifyError(message)
