"""Types of SSA values."""

from dataclasses import dataclass

from effcomp.ir.dims import Dim, print_dim, product

ITEMSIZE = {
    "f64": 8, "f32": 4, "bf16": 2, "f16": 2, "f8e4m3": 1, "f8e5m2": 1,
    "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u8": 1, "bool": 1, "c64": 8, "c128": 16,
    "u64": 8,
}  # fmt: skip
FLOATS = frozenset({"f64", "f32", "bf16", "f16", "f8e4m3", "f8e5m2"})
INTEGERS = frozenset({"i64", "i32", "i16", "i8", "u8"})
LIBRARY_ONLY = frozenset({"c64", "c128", "u64"})
"""What kernels never compute. "u64" is the state of a random number generator, handed on."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape; layout is decided later, by the plan."""

    dtype: str
    shape: tuple[Dim, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes of the dense tensor."""
        return product((self.numel, ITEMSIZE[self.dtype]))

    def with_shape(self, *shape: Dim) -> "TensorType":
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: str) -> "TensorType":
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(print_dim, self.shape))}]"


@dataclass(frozen=True, slots=True)
class SizeType:
    """A size passed as a value: what torch calls a SymInt input or output."""

    expr: Dim

    def __str__(self) -> str:
        return f"size[{print_dim(self.expr)}]"


Type = TensorType | SizeType
