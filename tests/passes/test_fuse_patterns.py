"""Well-known patterns group as a compiler person expects: number and kind of kernels."""

import pytest

from effcomp.ir import Graph, parse_graph, verify
from effcomp.passes.fuse_epilogue import FuseEpilogue
from effcomp.passes.fuse_pointwise import FusePointwise
from effcomp.passes.fuse_rowwise import FuseRowwise
from effcomp.rewrite import Pipeline, Run

FUSION = Pipeline((FuseRowwise(), FuseEpilogue(), FusePointwise()))


def fuse(text: str) -> Run:
    return FUSION.run(parse_graph(text))


def kernels(graph: Graph) -> list[str]:
    """What runs: a group as its kind and its ops, every other op by name."""
    return [
        f"{op.name}:{op.body.name}" if op.body is not None else op.name
        for op in graph.ops
        if op.name not in ("tensor.reshape", "tensor.permute", "tensor.slice")
    ]


ROPE = """
  %a1 = tensor.slice({x}) {{dim = 3, start = 0, stop = 32}} : f32[2, 8, 128, 32]
  %b1 = tensor.slice({x}) {{dim = 3, start = 32, stop = 64}} : f32[2, 8, 128, 32]
  %n1 = tensor.neg(%b1) : f32[2, 8, 128, 32]
  %r1 = tensor.concat(%n1, %a1) {{dim = 3}} : f32[2, 8, 128, 64]
  %c1 = tensor.mul({x}, %cos) : f32[2, 8, 128, 64]
  %s1 = tensor.mul(%r1, %sin) : f32[2, 8, 128, 64]
  %o1 = tensor.add(%c1, %s1) : f32[2, 8, 128, 64]"""

PATTERNS = {
    "rope": (
        "graph @g(%x: f32[2, 8, 128, 64], %cos: f32[128, 64], %sin: f32[128, 64]) {"
        + ROPE.format(x="%x")
        + "\n  return %o1\n}",
        ["fused.pointwise:neg_concat_mul_add"],
    ),
    "qk norm and rope, heads already in front": (
        "graph @g(%x: f32[2, 8, 128, 64], %w: f32[64], %cos: f32[128, 64], %sin: f32[128, 64]) {"
        "\n  %y = nn.rms_norm(%x, %w) {eps = 1e-06} : f32[2, 8, 128, 64]"
        + ROPE.format(x="%y")
        + "\n  return %o1\n}",
        ["fused.rowwise:rms_norm_neg_concat_mul_add"],
    ),
    "rope of interleaved pairs": (
        """graph @g(%x: bf16[1, 128, 512], %w: bf16[64], %cos: f32[128, 64], %sin: f32[128, 64]) {
  %h = tensor.reshape(%x) {shape = [1, 128, 8, 64]} : bf16[1, 128, 8, 64]
  %y = nn.rms_norm(%h, %w) {eps = 1e-06} : bf16[1, 128, 8, 64]
  %f = tensor.convert(%y) {dtype = "f32"} : f32[1, 128, 8, 64]
  %p = tensor.reshape(%f) {shape = [1, 128, 8, 32, 2]} : f32[1, 128, 8, 32, 2]
  %a = tensor.slice(%p) {dim = 4, start = 0, stop = 1} : f32[1, 128, 8, 32, 1]
  %b = tensor.slice(%p) {dim = 4, start = 1, stop = 2} : f32[1, 128, 8, 32, 1]
  %n = tensor.neg(%b) : f32[1, 128, 8, 32, 1]
  %s = tensor.concat(%n, %a) {dim = 4} : f32[1, 128, 8, 32, 2]
  %r = tensor.reshape(%s) {shape = [1, 128, 8, 64]} : f32[1, 128, 8, 64]
  %c = tensor.reshape(%cos) {shape = [1, 128, 1, 64]} : f32[1, 128, 1, 64]
  %d = tensor.reshape(%sin) {shape = [1, 128, 1, 64]} : f32[1, 128, 1, 64]
  %u = tensor.mul(%f, %c) : f32[1, 128, 8, 64]
  %v = tensor.mul(%r, %d) : f32[1, 128, 8, 64]
  %o = tensor.add(%u, %v) : f32[1, 128, 8, 64]
  %z = tensor.convert(%o) {dtype = "bf16"} : bf16[1, 128, 8, 64]
  %t = tensor.permute(%z) {dims = [0, 2, 1, 3]} : bf16[1, 8, 128, 64]
  return %t
}""",
        ["fused.rowwise:rms_norm_neg_concat_mul_add"],
    ),
    "qk norm, heads to the front, rope": (
        """graph @g(%x: f16[2, 128, 512], %w: f16[64], %c: f16[2, 128, 64], %s: f16[2, 128, 64]) {
  %h = tensor.reshape(%x) {shape = [2, 128, 8, 64]} : f16[2, 128, 8, 64]
  %y = nn.rms_norm(%h, %w) {eps = 1e-06} : f16[2, 128, 8, 64]
  %q = tensor.permute(%y) {dims = [0, 2, 1, 3]} : f16[2, 8, 128, 64]
  %c1 = tensor.reshape(%c) {shape = [2, 1, 128, 64]} : f16[2, 1, 128, 64]
  %s1 = tensor.reshape(%s) {shape = [2, 1, 128, 64]} : f16[2, 1, 128, 64]
  %a = tensor.slice(%q) {dim = 3, start = 0, stop = 32} : f16[2, 8, 128, 32]
  %b = tensor.slice(%q) {dim = 3, start = 32, stop = 64} : f16[2, 8, 128, 32]
  %n = tensor.neg(%b) : f16[2, 8, 128, 32]
  %r = tensor.concat(%n, %a) {dim = 3} : f16[2, 8, 128, 64]
  %u = tensor.mul(%q, %c1) : f16[2, 8, 128, 64]
  %v = tensor.mul(%r, %s1) : f16[2, 8, 128, 64]
  %o = tensor.add(%u, %v) : f16[2, 8, 128, 64]
  return %o
}""",
        ["fused.rowwise:rms_norm_neg_concat_mul_add"],
    ),
    "adaLN": (
        """graph @g(%x: bf16[2, 256, 1024], %y: bf16[2, 256, 1024], %e: bf16[2, 6144]) {
  %g = tensor.slice(%e) {dim = 1, start = 0, stop = 1024} : bf16[2, 1024]
  %g1 = tensor.reshape(%g) {shape = [2, 1, 1024]} : bf16[2, 1, 1024]
  %s = tensor.slice(%e) {dim = 1, start = 1024, stop = 2048} : bf16[2, 1024]
  %s1 = tensor.reshape(%s) {shape = [2, 1, 1024]} : bf16[2, 1, 1024]
  %t = tensor.slice(%e) {dim = 1, start = 2048, stop = 3072} : bf16[2, 1024]
  %t1 = tensor.reshape(%t) {shape = [2, 1, 1024]} : bf16[2, 1, 1024]
  %c = tensor.constant() {value = 1, dtype = "bf16"} : bf16[]
  %k = tensor.mul(%y, %g1) : bf16[2, 256, 1024]
  %r = tensor.add(%x, %k) : bf16[2, 256, 1024]
  %n = nn.layer_norm(%r) {eps = 1e-06} : bf16[2, 256, 1024]
  %a = tensor.add(%s1, %c) : bf16[2, 1, 1024]
  %m = tensor.mul(%n, %a) : bf16[2, 256, 1024]
  %o = tensor.add(%m, %t1) : bf16[2, 256, 1024]
  return %o, %r
}""",
        ["fused.rowwise:mul_add_layer_norm"],
    ),
    "RMSNorm as T5 and Llama write it": (
        """graph @g(%x: bf16[2, 256, 1024], %w: bf16[1024]) {
  %f = tensor.convert(%x) {dtype = "f32"} : f32[2, 256, 1024]
  %q = tensor.mul(%f, %f) : f32[2, 256, 1024]
  %v = tensor.mean(%q) {dims = [2], keepdim = true} : f32[2, 256, 1]
  %e = tensor.constant() {value = 1e-6, dtype = "f32"} : f32[]
  %a = tensor.add(%v, %e) : f32[2, 256, 1]
  %r = tensor.rsqrt(%a) : f32[2, 256, 1]
  %n = tensor.mul(%f, %r) : f32[2, 256, 1024]
  %b = tensor.convert(%n) {dtype = "bf16"} : bf16[2, 256, 1024]
  %o = tensor.mul(%w, %b) : bf16[2, 256, 1024]
  return %o
}""",
        ["fused.rowwise:mul_mean_add_rsqrt"],
    ),
    "residual and norm, the sum read again": (
        """graph @g(%x: bf16[512, 768], %y: bf16[512, 768], %w: bf16[768], %u: bf16[768, 768]) {
  %r = tensor.add(%x, %y) : bf16[512, 768]
  %n = nn.rms_norm(%r, %w) {eps = 1e-06} : bf16[512, 768]
  %l = nn.linear(%n, %u) : bf16[512, 768]
  %s = tensor.add(%r, %l) : bf16[512, 768]
  %m = nn.rms_norm(%s, %w) {eps = 1e-06} : bf16[512, 768]
  return %m, %s
}""",
        ["fused.rowwise:add_rms_norm", "nn.linear", "fused.rowwise:add_rms_norm"],
    ),
    "GEGLU of many rows": (
        """graph @g(%x: bf16[8, 4096, 640], %w: bf16[5120, 640]) {
  %l = nn.linear(%x, %w) : bf16[8, 4096, 5120]
  %a = tensor.slice(%l) {dim = 2, start = 0, stop = 2560} : bf16[8, 4096, 2560]
  %b = tensor.slice(%l) {dim = 2, start = 2560, stop = 5120} : bf16[8, 4096, 2560]
  %g = nn.gelu(%b) : bf16[8, 4096, 2560]
  %o = tensor.mul(%a, %g) : bf16[8, 4096, 2560]
  return %o
}""",
        ["nn.linear", "fused.pointwise:gelu_mul"],
    ),
    "SwiGLU of one row": (
        """graph @g(%x: bf16[1, 1, 4096], %u: bf16[11008, 4096], %v: bf16[11008, 4096]) {
  %a = nn.linear(%x, %u) : bf16[1, 1, 11008]
  %b = nn.linear(%x, %v) : bf16[1, 1, 11008]
  %s = nn.silu(%a) : bf16[1, 1, 11008]
  %o = tensor.mul(%s, %b) : bf16[1, 1, 11008]
  return %o
}""",
        ["fused.matmul:linear", "fused.matmul:linear_silu_mul"],
    ),
    "softmax with scale and mask": (
        """graph @g(%x: bf16[2, 8, 128, 128], %m: f32[2, 1, 128, 128]) {
  %f = tensor.convert(%x) {dtype = "f32"} : f32[2, 8, 128, 128]
  %c = tensor.constant() {value = 0.125, dtype = "f32"} : f32[]
  %s = tensor.mul(%f, %c) : f32[2, 8, 128, 128]
  %a = tensor.add(%s, %m) : f32[2, 8, 128, 128]
  %p = nn.softmax(%a) {dim = -1} : f32[2, 8, 128, 128]
  %o = tensor.convert(%p) {dtype = "bf16"} : bf16[2, 8, 128, 128]
  return %o
}""",
        ["fused.rowwise:mul_add_softmax"],
    ),
    "group norm, decomposed, and silu": (
        """graph @g(%x: f16[8, 320, 64, 64], %w: f16[320], %b: f16[320], %t: f16[8, 320]) {
  %e = tensor.reshape(%t) {shape = [8, 320, 1, 1]} : f16[8, 320, 1, 1]
  %y = tensor.add(%x, %e) : f16[8, 320, 64, 64]
  %r = tensor.reshape(%y) {shape = [8, 32, 40960]} : f16[8, 32, 40960]
  %n = nn.layer_norm(%r) {eps = 1e-05} : f16[8, 32, 40960]
  %s = tensor.reshape(%n) {shape = [8, 320, 64, 64]} : f16[8, 320, 64, 64]
  %w1 = tensor.reshape(%w) {shape = [1, 320, 1, 1]} : f16[1, 320, 1, 1]
  %b1 = tensor.reshape(%b) {shape = [1, 320, 1, 1]} : f16[1, 320, 1, 1]
  %m = tensor.mul(%s, %w1) : f16[8, 320, 64, 64]
  %a = tensor.add(%m, %b1) : f16[8, 320, 64, 64]
  %o = nn.silu(%a) : f16[8, 320, 64, 64]
  return %o
}""",
        ["fused.rowwise:add_layer_norm_mul_silu"],
    ),
    "two statistics of one row": (
        """graph @g(%x: f32[512, 1024]) {
  %a = tensor.amax(%x) {dims = [1], keepdim = true} : f32[512, 1]
  %m = tensor.mean(%x) {dims = [1]} : f32[512]
  %d = tensor.sub(%x, %a) : f32[512, 1024]
  %e = tensor.exp(%d) : f32[512, 1024]
  %s = tensor.sum(%e) {dims = [1], keepdim = true} : f32[512, 1]
  %q = tensor.div(%e, %s) : f32[512, 1024]
  return %q, %m
}""",
        ["fused.rowwise:amax_mean_sub_exp_sum"],
    ),
    "norms over other dims stay apart": (
        """graph @g(%x: f32[512, 16, 64]) {
  %a = nn.rms_norm(%x) {eps = 1e-06} : f32[512, 16, 64]
  %r = tensor.reshape(%a) {shape = [512, 1024]} : f32[512, 1024]
  %b = nn.softmax(%r) {dim = 1} : f32[512, 1024]
  return %b
}""",
        ["fused.rowwise:rms_norm", "fused.rowwise:softmax"],
    ),
    "siblings that share an operand": (
        """graph @g(%x: f32[512, 1024], %y: f32[512, 1024], %z: f32[512, 1024]) {
  %a = tensor.add(%x, %y) : f32[512, 1024]
  %b = tensor.mul(%x, %z) : f32[512, 1024]
  return %a, %b
}""",
        ["fused.pointwise:add_mul"],
    ),
    "no group around a product": (
        """graph @g(%x: bf16[4096, 4096], %w: bf16[4096, 4096]) {
  %a = nn.silu(%x) : bf16[4096, 4096]
  %l = nn.linear(%a, %w) : bf16[4096, 4096]
  %o = tensor.add(%a, %l) : bf16[4096, 4096]
  return %o
}""",
        ["fused.pointwise:silu", "nn.linear", "fused.pointwise:add"],
    ),
    "embedding and position": (
        """graph @g(%w: weight bf16[32000, 1024], %p: weight bf16[512, 1024], %i: i64[2, 128]) {
  %e = nn.embedding(%w, %i) : bf16[2, 128, 1024]
  %j = tensor.iota() {size = 128} : i64[128]
  %k = nn.embedding(%p, %j) : bf16[128, 1024]
  %o = tensor.add(%e, %k) : bf16[2, 128, 1024]
  return %o
}""",
        ["fused.pointwise:embedding_add"],
    ),
    "symbolic sizes": (
        """graph @g(%x: bf16[s0, s1, 1024], %y: bf16[s0, s1, 1024]) {
  %r = tensor.add(%x, %y) : bf16[s0, s1, 1024]
  %f = tensor.reshape(%r) {shape = [s0*s1, 1024]} : bf16[s0*s1, 1024]
  %n = nn.layer_norm(%f) {eps = 1e-06} : bf16[s0*s1, 1024]
  %h = tensor.reshape(%n) {shape = [s0, s1, 16, 64]} : bf16[s0, s1, 16, 64]
  %o = nn.silu(%h) : bf16[s0, s1, 16, 64]
  return %o, %r
}""",
        ["fused.rowwise:add_layer_norm_silu"],
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name: str) -> None:
    text, expected = PATTERNS[name]
    graph = fuse(text).graph
    verify(graph)
    assert kernels(graph) == expected
