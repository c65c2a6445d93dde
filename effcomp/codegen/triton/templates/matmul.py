"""Blocks of a matrix product. Shape suffixes: M rows, N columns, K the summed dim.

A kernel calls one of these for its block and goes on with the epilogue in registers. Rows and
columns come as pointers to their first elements, so any strides and batches will do.
"""

import triton
import triton.language as tl


@triton.jit
def grouped_order(program, blocks_m, blocks_n, GROUP_M: tl.constexpr):
    """Which block a program computes: GROUP_M blocks of rows share columns while L2 holds them."""
    width = GROUP_M * blocks_n
    first = program // width * GROUP_M
    rows = tl.minimum(blocks_m - first, GROUP_M)
    within = program % width
    return first + within % rows, within // rows


@triton.jit
def load_where(at, inside, k_inside):
    """The elements where both conditions hold, else 0; a condition may be None."""
    if inside is None:
        if k_inside is None:
            return tl.load(at)
        else:
            return tl.load(at, mask=k_inside, other=0.0)
    elif k_inside is None:
        return tl.load(at, mask=inside, other=0.0)
    else:
        return tl.load(at, mask=inside & k_inside, other=0.0)


@triton.jit
def matmul_block(
    a_M1,
    b_1N,
    m_inside,
    n_inside,
    depth,
    a_step,
    b_step,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """sum_k a[m, k] b[k, n] in float32, on the matrix units."""
    k = tl.arange(0, BLOCK_K)
    a_MK = a_M1 + k[None, :] * a_step
    b_KN = b_1N + k[:, None] * b_step
    acc_MN = tl.zeros([a_M1.shape[0], b_1N.shape[1]], tl.float32)
    for start in range(0, depth, BLOCK_K):
        if EVEN_K:
            x_MK = load_where(a_MK, m_inside, None)
            w_KN = load_where(b_KN, n_inside, None)
        else:
            x_MK = load_where(a_MK, m_inside, (k < depth - start)[None, :])
            w_KN = load_where(b_KN, n_inside, (k < depth - start)[:, None])
        acc_MN = tl.dot(x_MK, w_KN, acc_MN, input_precision=PRECISION)
        a_MK += BLOCK_K * a_step
        b_KN += BLOCK_K * b_step
    return acc_MN


@triton.jit
def matvec_block(
    a,
    b_N,
    n_inside,
    depth,
    a_step,
    b_step,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
):
    """sum_k a[k] b[k, n] in float32, for one row: bound by reading b, so no matrix unit."""
    k = tl.arange(0, BLOCK_K)
    a_K = a + k * a_step
    b_NK = b_N[:, None] + k[None, :] * b_step
    if n_inside is not None:
        n_inside = n_inside[:, None]
    acc_NK = tl.zeros([b_N.shape[0], BLOCK_K], tl.float32)
    for start in range(0, depth, BLOCK_K):
        if EVEN_K:
            x_K = tl.load(a_K)
            w_NK = load_where(b_NK, n_inside, None)
        else:
            x_K = tl.load(a_K, mask=k < depth - start, other=0.0)
            w_NK = load_where(b_NK, n_inside, (k < depth - start)[None, :])
        acc_NK += w_NK.to(tl.float32) * x_K.to(tl.float32)[None, :]
        a_K += BLOCK_K * a_step
        b_NK += BLOCK_K * b_step
    return tl.sum(acc_NK, axis=1)
