"""Attention of a few queries over many keys, the keys split among programs (Flash-Decoding).

Shape suffixes: R rows, the G query heads that share a key head times the M queries of each; N keys
of one turn; D the head size; S splits. Rows are padded to 16, what the matrix unit takes at least.
Every program keeps a softmax of its own part; `combine` brings the parts to one maximum.
"""

import triton
import triton.language as tl


@triton.jit
def load_inside(at, inside, EVEN: tl.constexpr):
    """The elements, 0 for those of keys past the end; EVEN: there are none."""
    if EVEN:
        return tl.load(at)
    else:
        return tl.load(at, mask=inside, other=0.0)


@triton.jit
def masked_scores(s_RN, mask_RN, row_inside, n_inside, MASK: tl.constexpr, EVEN: tl.constexpr):
    """Scores in powers of two, -inf for keys that a row may not look at.

    MASK is "none", "bool" (true: look at the key) or "float" (added to the scaled scores).
    """
    if MASK != "none":
        found = tl.load(mask_RN, mask=row_inside[:, None] & n_inside[None, :], other=0)
        if MASK == "bool":
            s_RN = tl.where(found != 0, s_RN, float("-inf"))
        else:
            s_RN += found.to(tl.float32) * 1.4426950408889634
    if not EVEN:
        s_RN = tl.where(n_inside[None, :], s_RN, float("-inf"))
    return s_RN


@triton.jit
def split(
    q, k, v, mask, part, peak, total,
    SCALE: tl.constexpr, KEY_HEADS: tl.constexpr, GROUP: tl.constexpr, QUERIES: tl.constexpr,
    KEYS: tl.constexpr, HEAD: tl.constexpr, SPLITS: tl.constexpr, SPAN: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr, MASK: tl.constexpr,
    Q_STRIDES: tl.constexpr, K_STRIDES: tl.constexpr, V_STRIDES: tl.constexpr,
    MASK_STRIDES: tl.constexpr,
):  # fmt: skip
    """exp2(s - max s), its sum and its product with v, for SPAN keys of one key head."""
    head, at = tl.program_id(0), tl.program_id(1)
    batch, key_head = head // KEY_HEADS, head % KEY_HEADS
    r, d = tl.arange(0, BLOCK_R), tl.arange(0, HEAD)
    row_inside = r < GROUP * QUERIES
    query_head, query = key_head * GROUP + r // QUERIES, r % QUERIES
    q_R = q + batch * Q_STRIDES[0] + query_head * Q_STRIDES[1] + query * Q_STRIDES[2]
    q_RD = tl.load(q_R[:, None] + d[None, :] * Q_STRIDES[3], mask=row_inside[:, None], other=0.0)
    k_D1 = k + batch * K_STRIDES[0] + key_head * K_STRIDES[1] + d[:, None] * K_STRIDES[3]
    v_1D = v + batch * V_STRIDES[0] + key_head * V_STRIDES[1] + d[None, :] * V_STRIDES[3]
    mask_R = batch * MASK_STRIDES[0] + query_head * MASK_STRIDES[1] + query * MASK_STRIDES[2]
    peak_R = tl.full([BLOCK_R], float("-inf"), tl.float32)
    total_R = tl.zeros([BLOCK_R], tl.float32)
    acc_RD = tl.zeros([BLOCK_R, HEAD], tl.float32)
    for start in range(0, SPAN, BLOCK_N):
        n = at * SPAN + start + tl.arange(0, BLOCK_N)
        n_inside = n < KEYS
        k_DN = load_inside(k_D1 + n[None, :] * K_STRIDES[2], n_inside[None, :], KEYS % SPAN == 0)
        s_RN = tl.dot(q_RD, k_DN, input_precision=PRECISION) * (SCALE * 1.4426950408889634)
        mask_RN = mask + mask_R[:, None] + n[None, :] * MASK_STRIDES[3]
        s_RN = masked_scores(s_RN, mask_RN, row_inside, n_inside, MASK, KEYS % SPAN == 0)
        new_R = tl.maximum(peak_R, tl.max(s_RN, 1))
        # A row that may look at nothing yet keeps its zeros: -inf - -inf is no number.
        base_R = tl.where(new_R == float("-inf"), 0.0, new_R)
        p_RN = tl.exp2(s_RN - base_R[:, None])
        kept_R = tl.exp2(peak_R - base_R)
        total_R = total_R * kept_R + tl.sum(p_RN, 1)
        v_ND = load_inside(v_1D + n[:, None] * V_STRIDES[2], n_inside[:, None], KEYS % SPAN == 0)
        acc_RD *= kept_R[:, None]
        acc_RD = tl.dot(p_RN.to(v_ND.dtype), v_ND, acc_RD, input_precision=PRECISION)
        peak_R = new_R
    row_R = (head * SPLITS + at) * (GROUP * QUERIES) + r
    tl.store(peak + row_R, peak_R, mask=row_inside)
    tl.store(total + row_R, total_R, mask=row_inside)
    tl.store(part + row_R[:, None] * HEAD + d[None, :], acc_RD, mask=row_inside[:, None])


@triton.jit
def combine(
    part,
    peak,
    total,
    out,
    KEY_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    QUERIES: tl.constexpr,
    HEAD: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    OUT_STRIDES: tl.constexpr,
):
    """One row of the result: its parts, brought to their common maximum, over their sum."""
    head, r = tl.program_id(0), tl.program_id(1)
    batch, key_head = head // KEY_HEADS, head % KEY_HEADS
    s, d = tl.arange(0, BLOCK_S), tl.arange(0, HEAD)
    row_S = (head * SPLITS + s) * (GROUP * QUERIES) + r
    peak_S = tl.load(peak + row_S, mask=s < SPLITS, other=float("-inf"))
    total_S = tl.load(total + row_S, mask=s < SPLITS, other=0.0)
    part_SD = tl.load(
        part + row_S[:, None] * HEAD + d[None, :], mask=(s < SPLITS)[:, None], other=0.0
    )
    highest = tl.max(peak_S, 0)
    scale_S = tl.exp2(peak_S - tl.where(highest == float("-inf"), 0.0, highest))
    summed = tl.sum(total_S * scale_S, 0)
    out_D = tl.sum(part_SD * scale_S[:, None], 0) / tl.where(summed == 0.0, 1.0, summed)
    query_head, query = key_head * GROUP + r // QUERIES, r % QUERIES
    out += batch * OUT_STRIDES[0] + query_head * OUT_STRIDES[1] + query * OUT_STRIDES[2]
    tl.store(out + d * OUT_STRIDES[3], out_D.to(out.dtype.element_ty))
