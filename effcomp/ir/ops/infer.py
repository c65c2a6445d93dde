"""Shape rules that several op declarations share."""

from collections.abc import Sequence

from effcomp.errors import VerifyError
from effcomp.ir.dims import Dim, print_dim, same
from effcomp.ir.spec import require
from effcomp.ir.types import TensorType


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The common shape under numpy's broadcasting rule."""
    rank = max(map(len, shapes))
    out: list[Dim] = []
    for position in range(rank):
        sizes = [s[position - rank + len(s)] for s in shapes if position - rank + len(s) >= 0]
        wide = [s for s in sizes if s != 1]
        for other in wide[1:]:
            require(
                same(wide[0], other),
                f"sizes {print_dim(wide[0])} and {print_dim(other)} do not broadcast",
            )
        out.append(wide[0] if wide else 1)
    return tuple(out)


def same_dtype(*types: TensorType) -> str:
    dtypes = {t.dtype for t in types}
    require(len(dtypes) == 1, f"operands differ in dtype: {', '.join(map(str, types))}")
    return types[0].dtype


def axis(dim: int, rank: int) -> int:
    """A dimension counted from the front. Raises VerifyError when out of range."""
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise VerifyError(f"dim {dim} is out of range for rank {rank}")
    return dim % rank if rank else 0


def axes(dims: Sequence[int], rank: int) -> tuple[int, ...]:
    found = tuple(sorted(axis(d, rank) for d in dims))
    require(len(set(found)) == len(found), f"a dim is named twice in {tuple(dims)}")
    return found


def reduced(shape: Sequence[Dim], dims: Sequence[int], keepdim: bool) -> tuple[Dim, ...]:
    gone = set(axes(dims, len(shape)))
    if keepdim:
        return tuple(1 if i in gone else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in gone)
