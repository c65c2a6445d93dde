"""`aten.call`: whatever is not modelled yet."""

from effcomp.ir.core import Attr
from effcomp.ir.spec import Trait, op
from effcomp.ir.type_text import parse_type
from effcomp.ir.types import Type


@op("aten.call", Trait.NONE)
def call(
    *operands: Type,
    target: str,
    args: tuple[Attr, ...] = (),
    kwargs: tuple[Attr, ...] = (),
    types: tuple[str, ...],
    why: str = "",
    effects: bool = False,
) -> tuple[Type, ...]:
    """Call torch's operator `target` ("aten.sort.stable"), with the captured result types `types`.

    An empty type stands where the operator returns no tensor (None or a size): that is no result.
    `args` and `kwargs` (pairs of name and value) hold the argument list, operands as Ref(i).
    `why` says why the op is not modelled; `effects` marks calls that keep program order (random
    numbers, in-place writes). `is_pure` reads `effects`.
    """
    return tuple(parse_type(t) for t in types if t)
