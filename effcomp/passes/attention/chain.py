"""From the softmax back to the product: scale, masks, conversions on the way."""

from dataclasses import dataclass, replace

from effcomp.ir import Op, Value, spec_of
from effcomp.ir.dims import same_shape
from effcomp.ir.types import FLOATS
from effcomp.passes.attention.masks import Added, Filled, Mask
from effcomp.passes.rounding import embeds
from effcomp.rewrite import Builder, Program, Refused, constant_of


@dataclass(frozen=True, slots=True)
class Scores:
    """softmax's operand is scale * (a @ b), then the masks (outermost first)."""

    a: Value
    b: Value
    scale: float = 1.0
    masks: tuple[Mask, ...] = ()


def read_scores(program: Program, value: Value) -> Scores | Refused:
    """Follow the scores to their product. Refused names what does not belong there."""
    maker = program.producer(value)
    if maker is None:
        return Refused("the scores come from outside")
    if program.uses(value) != 1:
        return Refused("the scores are read elsewhere too")
    match maker.name:
        case "tensor.matmul":
            return Scores(maker.operands[0], maker.operands[1])
        case "tensor.convert" if maker.operands[0].dtype in FLOATS:
            return read_scores(program, maker.operands[0])
        case "tensor.mul" | "tensor.div":
            return _scaled(program, maker)
        case "tensor.add":
            return _added(program, maker)
        case "tensor.where":
            return _filled(program, maker)
        case _:
            return Refused(f"the scores come from {maker.name}")


def _scaled(program: Program, op: Op) -> Scores | Refused:
    x, by = op.operands
    number = constant_of(by, program)
    if number is None or not same_shape(x.shape, op.result.shape):
        return Refused("the scores are scaled by what is no constant")
    inner = read_scores(program, x)
    if isinstance(inner, Refused):
        return inner
    if inner.masks:
        return Refused("the mask is scaled with the scores")
    scale = inner.scale * number if op.name == "tensor.mul" else inner.scale / number
    return replace(inner, scale=scale)


def _added(program: Program, op: Op) -> Scores | Refused:
    reason = Refused()
    for x, mask in (op.operands, op.operands[::-1]):
        if not same_shape(x.shape, op.result.shape):
            continue
        inner = read_scores(program, x)
        if not isinstance(inner, Refused):
            return replace(inner, masks=(*inner.masks, Added(mask)))
        reason = reason if reason.reason else inner
    return reason


def _filled(program: Program, op: Op) -> Scores | Refused:
    condition, a, b = op.operands
    for keep, x, other in ((True, a, b), (False, b, a)):
        fill = constant_of(other, program)
        if fill is None or not same_shape(x.shape, op.result.shape):
            continue
        inner = read_scores(program, x)
        if isinstance(inner, Refused):
            return inner
        return replace(inner, masks=(*inner.masks, Filled(condition, keep, float(fill))))
    return Refused("the scores are replaced by what is no constant")


_VIEWS = frozenset({"tensor.reshape", "tensor.permute", "tensor.broadcast"})


@dataclass(frozen=True, slots=True)
class Peeled:
    """A value as factor * views(base); `views` are outermost first."""

    base: Value
    views: tuple[Op, ...] = ()
    factor: float = 1.0

    def build(self, b: Builder) -> Value:
        """The value without its factor."""
        value = self.base
        for view in reversed(self.views):
            value = b.add(spec_of(view), value, **dict(view.attrs))  # pyright: ignore[reportArgumentType]
        return value


def peel(program: Program, value: Value, dtype: str) -> Peeled:
    """Strip constant factors, and conversions from `dtype` to something wider."""
    views: list[Op] = []
    factor = 1.0
    kept = 0  # views below which nothing was stripped stay as they are
    base = current = value
    while (maker := program.producer(current)) is not None:
        if maker.name in _VIEWS:
            views.append(maker)
            current = maker.operands[0]
            continue
        if maker.name in ("tensor.mul", "tensor.div"):
            x, by = maker.operands
            number = constant_of(by, program)
            if number is None or not same_shape(x.shape, maker.result.shape):
                break
            factor = factor * number if maker.name == "tensor.mul" else factor / number
        elif maker.name == "tensor.convert":
            x = maker.operands[0]
            if x.dtype != dtype or not embeds(x.dtype, maker.result.dtype):
                break
        else:
            break
        base, current, kept = maker.operands[0], maker.operands[0], len(views)
    return Peeled(base, tuple(views[:kept]), factor)
