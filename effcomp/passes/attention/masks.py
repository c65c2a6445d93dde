"""Masks of attention: what they add to the scores, and what is known of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from effcomp.ir import Value
from effcomp.ir.ops import elementwise as el
from effcomp.ir.types import FLOATS
from effcomp.passes.attention.elements import Formulas, grid
from effcomp.passes.rounding import embeds
from effcomp.rewrite import Builder, Program, Refused, constant_of

LOWEST: Mapping[str, float] = {
    "f64": -1.7976931348623157e308,
    "f32": -3.4028234663852886e38,
    "bf16": -3.3895313892515355e38,
    "f16": -65504.0,
}
# Beside a score of any size one meets, such a number leaves nothing of it in float32.
_ABSORBS = -1e30
# exp(x) of anything below is 0, next to a score that is attended to.
_VANISHES = -65504.0


@dataclass(frozen=True, slots=True)
class Added:
    """scores + value."""

    value: Value


@dataclass(frozen=True, slots=True)
class Filled:
    """where(condition, scores, fill), or the other way round if not `keep`."""

    condition: Value
    keep: bool
    fill: float


Mask = Added | Filled


def check_mask(program: Program, mask: Mask, dtype: str) -> Refused | None:
    """Whether the mask can be added to the scores of a query of this dtype."""
    match mask:
        case Added(value=value):
            if value.dtype not in FLOATS:
                return Refused(f"the mask is {value.dtype}")
            exact = embeds(value.dtype, dtype) or _unwidened(program, value, dtype) is not None
            if exact or zero_or_lowest(program, value) is not None:
                return None
            return Refused(f"a mask of {value.dtype} cannot be added in {dtype}")
        case Filled(fill=fill):
            if fill == -math.inf or (fill <= _ABSORBS and dtype in ("f32", "bf16", "f64")):
                return None
            return Refused(f"a row filled with {fill:g} alone would not be averaged evenly")


def build_mask(program: Program, b: Builder, mask: Mask, dtype: str) -> Value:
    """The mask as something to add, in the query's dtype."""
    match mask:
        case Added(value=value):
            if embeds(value.dtype, dtype):
                return b.convert(value, dtype)
            if (plain := _unwidened(program, value, dtype)) is not None:
                return plain
            found = zero_or_lowest(program, value)
            assert found is not None, "check_mask looked at it"
            return build_mask(program, b, found, dtype)
        case Filled(condition=condition, keep=keep, fill=fill):
            low = b.constant(fill if fill == -math.inf else LOWEST[dtype], dtype)
            zero = b.constant(0.0, dtype)
            return b.add(el.where, condition, *((zero, low) if keep else (low, zero)))


def _unwidened(program: Program, value: Value, dtype: str) -> Value | None:
    """x where the value is convert(x: dtype)."""
    maker = program.producer(value)
    if maker is None or maker.name != "tensor.convert" or maker.operands[0].dtype != dtype:
        return None
    return maker.operands[0]


def zero_or_lowest(program: Program, value: Value) -> Filled | None:
    """A mask that adds 0 or a number that absorbs every score, as a condition."""
    maker = program.producer(value)
    if maker is None or maker.name != "tensor.where":
        return None
    condition, a, b = maker.operands
    numbers = (constant_of(a, program), constant_of(b, program))
    for keep, (zero, low) in ((True, numbers), (False, numbers[::-1])):
        if zero == 0 and low is not None and low <= _VANISHES:
            return Filled(condition, keep, float(low))
    return None


def mask_facts(program: Program, mask: Value, rows: Value, columns: Value) -> tuple[bool, bool]:
    """Whether a mask of attention lets everything through, and whether it is causal."""
    condition, keep = mask, True
    if mask.dtype != "bool":
        if constant_of(mask, program) == 0:
            return True, False
        found = zero_or_lowest(program, mask)
        if found is None:
            return False, False
        condition, keep = found.condition, found.keep
    if condition.tensor.rank < 2:
        return constant_of(condition, program) is keep, False
    where = grid(rows.shape[-2], columns.shape[-2])
    form = Formulas(program, where).condition(condition, where.index(condition))
    if form is None:
        return False, False
    form = form if keep else -form - 1
    return where.holds(form), where.is_causal(form)
