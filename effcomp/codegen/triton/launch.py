"""From a group to a launch: tile the group, print the tile kernel, name its arguments."""

import hashlib

from effcomp.codegen.kernel import KernelLaunch, Refusal
from effcomp.codegen.tile.build import Uncovered
from effcomp.codegen.tile.group import TiledGroup
from effcomp.codegen.tile.matmul import tile_matmul
from effcomp.codegen.tile.pointwise import tile_pointwise
from effcomp.codegen.tile.rowwise import tile_rowwise
from effcomp.codegen.tile.verify import verify_tile
from effcomp.codegen.triton.emit import block_name, emit_source, size_symbols
from effcomp.ir import Op
from effcomp.plan.schema import KernelParam, TritonKernel
from effcomp.target import Target

POINTER_TYPES = {
    "f64": "*fp64", "f32": "*fp32", "bf16": "*bf16", "f16": "*fp16", "i64": "*i64", "i32": "*i32",
    "i16": "*i16", "i8": "*i8", "u8": "*u8", "bool": "*i1",
}  # fmt: skip


def emit_group(op: Op, target: Target) -> KernelLaunch | Refusal:
    """One Triton kernel for a `fused.*` group, or the reason why there is none."""
    try:
        tiled = _tile(op, target)
    except Uncovered as uncovered:
        return Refusal(str(uncovered))
    return _launch(tiled)


def _tile(op: Op, target: Target) -> TiledGroup:
    match op.name:
        case "fused.pointwise":
            return tile_pointwise(op, target)
        case "fused.rowwise":
            return tile_rowwise(op, target)
        case "fused.matmul":
            return tile_matmul(op, target)
        case _:
            raise Uncovered(f"{op.name} is no group")


def _launch(tiled: TiledGroup) -> KernelLaunch:
    kernel = tiled.kernel
    verify_tile(kernel)
    source = emit_source(kernel)
    sizes = size_symbols(kernel)
    blocks = tuple((block_name(a), a.block) for a in kernel.vector_axes)
    params = (
        *(KernelParam(p.name, POINTER_TYPES[p.dtype]) for p in kernel.pointers),
        *(KernelParam(f"n{i}", "i64") for i in range(len(sizes))),
        *(KernelParam(name, "constexpr") for name, _ in blocks),
    )
    # The text does not tell what pointers point to: a kernel of f16 may read like one of bf16.
    digest = _digest(source, params, blocks, kernel.num_warps, kernel.num_stages)
    triton = TritonKernel(
        kernel.name, source, params, blocks, digest, kernel.num_warps, kernel.num_stages
    )
    return KernelLaunch(triton, (*tiled.values, *sizes), (tiled.programs, 1, 1))


def _digest(source: str, *options: object) -> str:
    """Equal for equal kernels: the model's source lines, in comments above, do not count."""
    body = source[source.index("import triton") :]
    return hashlib.sha256(repr((body, options)).encode()).hexdigest()[:32]
