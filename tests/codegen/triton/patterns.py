"""The groups that transformers and diffusion models are made of, as IR, at any size."""

from __future__ import annotations

from collections.abc import Callable

from effcomp.ir import Graph
from tests.codegen.triton.running import group_graph


def ada_layer_norm(d: str, b: int = 2, m: int = 4608, n: int = 3072) -> Graph:
    return group_graph(
        "rowwise",
        f"%x: {d}[{b}, {m}, {n}], %scale: {d}[{b}, {n}], %shift: {d}[{b}, {n}]",
        f"""
        %n = nn.layer_norm(%x) {{eps = 1e-06}} : {d}[{b}, {m}, {n}] loc "model.py:12"
        %one = tensor.constant() {{value = 1.0, dtype = "{d}"}} : {d}[]
        %s = tensor.add(%scale, %one) : {d}[{b}, {n}] loc "model.py:13"
        %s1 = tensor.reshape(%s) {{shape = [{b}, 1, {n}]}} : {d}[{b}, 1, {n}]
        %m = tensor.mul(%n, %s1) : {d}[{b}, {m}, {n}] loc "model.py:13"
        %t1 = tensor.reshape(%shift) {{shape = [{b}, 1, {n}]}} : {d}[{b}, 1, {n}]
        %r = tensor.add(%m, %t1) : {d}[{b}, {m}, {n}] loc "model.py:13"
        return %r
        """,
    )


def rms_norm_rope(d: str, b: int = 1, m: int = 4608, h: int = 24, n: int = 128) -> Graph:
    full, half = f"[{b}, {m}, {h}, {n}]", f"[{b}, {m}, {h}, {n // 2}]"
    return group_graph(
        "rowwise",
        f"%x: {d}[{b}, {m}, {h * n}], %w: {d}[{n}], %c: f32[{m}, 1, {n}], %s: f32[{m}, 1, {n}]",
        f"""
        %h = tensor.reshape(%x) {{shape = {full}}} : {d}{full}
        %n = nn.rms_norm(%h, %w) {{eps = 1e-05}} : {d}{full} loc "attention.py:40"
        %f = tensor.convert(%n) {{dtype = "f32"}} : f32{full}
        %lo = tensor.slice(%f) {{dim = 3, start = 0, stop = {n // 2}}} : f32{half}
        %hi = tensor.slice(%f) {{dim = 3, start = {n // 2}, stop = {n}}} : f32{half}
        %neg = tensor.neg(%hi) : f32{half}
        %turned = tensor.concat(%neg, %lo) {{dim = 3}} : f32{full}
        %a = tensor.mul(%f, %c) : f32{full}
        %b = tensor.mul(%turned, %s) : f32{full}
        %r = tensor.add(%a, %b) : f32{full}
        %q = tensor.convert(%r) {{dtype = "{d}"}} : {d}{full}
        return %q
        """,
    )


def masked_softmax(d: str, b: int = 2, h: int = 16, m: int = 1024, n: int = 1000) -> Graph:
    full = f"[{b}, {h}, {m}, {n}]"
    return group_graph(
        "rowwise",
        f"%x: {d}{full}, %mask: bool[{m}, {n}]",
        f"""
        %off = tensor.constant() {{value = float(-inf), dtype = "{d}"}} : {d}[]
        %k = tensor.constant() {{value = 0.125, dtype = "{d}"}} : {d}[]
        %s = tensor.mul(%x, %k) : {d}{full}
        %m = tensor.where(%mask, %s, %off) : {d}{full}
        %p = nn.softmax(%m) {{dim = -1}} : {d}{full}
        return %p
        """,
    )


def group_norm_silu(d: str, b: int = 2, c: int = 320, g: int = 32, s: int = 128) -> Graph:
    full, rows = f"[{b}, {c}, {s}, {s}]", f"[{b}, {g}, {c // g * s * s}]"
    return group_graph(
        "rowwise",
        f"%x: {d}{full}, %w: {d}[{c}], %b: {d}[{c}]",
        f"""
        %g = tensor.reshape(%x) {{shape = {rows}}} : {d}{rows}
        %n = nn.layer_norm(%g) {{eps = 1e-05}} : {d}{rows} loc "resnet.py:7"
        %f = tensor.reshape(%n) {{shape = {full}}} : {d}{full}
        %w1 = tensor.reshape(%w) {{shape = [{c}, 1, 1]}} : {d}[{c}, 1, 1]
        %b1 = tensor.reshape(%b) {{shape = [{c}, 1, 1]}} : {d}[{c}, 1, 1]
        %m = tensor.mul(%f, %w1) : {d}{full}
        %a = tensor.add(%m, %b1) : {d}{full}
        %r = nn.silu(%a) : {d}{full} loc "resnet.py:8"
        return %r
        """,
    )


def residual_layer_norm(d: str, m: int = 4096, n: int = 1280) -> Graph:
    return group_graph(
        "rowwise",
        f"%x: {d}[{m}, {n}], %y: {d}[{m}, {n}], %w: {d}[{n}], %b: {d}[{n}]",
        f"""
        %s = tensor.add(%x, %y) : {d}[{m}, {n}]
        %n = nn.layer_norm(%s, %w, %b) {{eps = 1e-05}} : {d}[{m}, {n}]
        return %s, %n
        """,
    )


def long_layer_norm(d: str, m: int = 64, n: int = 50000) -> Graph:
    return group_graph(
        "rowwise",
        f"%x: {d}[{m}, {n}], %w: {d}[{n}]",
        f"""
        %n = nn.layer_norm(%x, %w) {{eps = 1e-05}} : {d}[{m}, {n}]
        return %n
        """,
    )


def argmax(d: str, m: int = 256, n: int = 32000) -> Graph:
    return group_graph(
        "rowwise",
        f"%x: {d}[{m}, {n}]",
        f"""
        %a = tensor.argmax(%x) {{dim = 1}} : i64[{m}]
        return %a
        """,
    )


def symbolic_softmax(d: str) -> Graph:
    return group_graph(
        "rowwise",
        f"%x: {d}[s0, s1]",
        f"""
        %p = nn.softmax(%x) {{dim = 1}} : {d}[s0, s1]
        return %p
        """,
    )


def geglu(d: str, m: int = 4096, n: int = 5120) -> Graph:
    half = f"[2, {m}, {n}]"
    return group_graph(
        "pointwise",
        f"%x: {d}[2, {m}, {2 * n}]",
        f"""
        %a = tensor.slice(%x) {{dim = 2, start = 0, stop = {n}}} : {d}{half}
        %b = tensor.slice(%x) {{dim = 2, start = {n}, stop = {2 * n}}} : {d}{half}
        %c = nn.gelu(%b) : {d}{half} loc "feed_forward.py:3"
        %d = tensor.mul(%a, %c) : {d}{half} loc "feed_forward.py:3"
        return %d
        """,
    )


def transpose(d: str, b: int = 2, m: int = 4096, n: int = 640) -> Graph:
    return group_graph(
        "pointwise",
        f"%x: {d}[{b}, {m}, {n}]",
        f"""
        %a = tensor.permute(%x) {{dims = [0, 2, 1]}} : {d}[{b}, {n}, {m}]
        return %a
        """,
    )


def concat(d: str, m: int = 512, n: int = 4096, w: int = 3072) -> Graph:
    return group_graph(
        "pointwise",
        f"%x: {d}[1, {m}, {w}], %y: {d}[1, {n}, {w}]",
        f"""
        %a = tensor.concat(%x, %y) {{dim = 1}} : {d}[1, {m + n}, {w}]
        return %a
        """,
    )


def embedding(d: str, v: int = 32000, m: int = 2048, n: int = 4096) -> Graph:
    return group_graph(
        "pointwise",
        f"%t: {d}[{v}, {n}], %i: i64[1, {m}]",
        f"""
        %e = nn.embedding(%t, %i) : {d}[1, {m}, {n}]
        return %e
        """,
    )


def gated_residual(d: str, n: int = 3072) -> Graph:
    return group_graph(
        "pointwise",
        f"%x: {d}[1, s0, {n}], %y: {d}[1, s0, {n}], %g: {d}[1, {n}]",
        f"""
        %g1 = tensor.reshape(%g) {{shape = [1, 1, {n}]}} : {d}[1, 1, {n}]
        %m = tensor.mul(%g1, %y) : {d}[1, s0, {n}]
        %a = tensor.add(%x, %m) : {d}[1, s0, {n}]
        return %a
        """,
    )


def linear_gelu_residual(d: str, m: int = 4608, n: int = 3072, k: int = 3072) -> Graph:
    return group_graph(
        "matmul",
        f"%x: {d}[1, {m}, {k}], %w: {d}[{n}, {k}], %b: {d}[{n}], %r: {d}[1, {m}, {n}]",
        f"""
        %p = nn.linear(%x, %w, %b) : {d}[1, {m}, {n}] loc "block.py:21"
        %g = nn.gelu(%p) {{approximate = "tanh"}} : {d}[1, {m}, {n}] loc "block.py:21"
        %a = tensor.add(%g, %r) : {d}[1, {m}, {n}] loc "block.py:22"
        return %a
        """,
    )


def decode_linear(d: str) -> Graph:
    return linear_gelu_residual(d, 1, 4096, 4096)


def small_batch_linear(d: str) -> Graph:
    return linear_gelu_residual(d, 8, 4096, 4096)


_MAKERS = (
    ada_layer_norm, argmax, concat, decode_linear, embedding, gated_residual, geglu,
    group_norm_silu, linear_gelu_residual, long_layer_norm, masked_softmax, residual_layer_norm,
    rms_norm_rope, small_batch_linear, symbolic_softmax, transpose,
)  # fmt: skip
PATTERNS: dict[str, Callable[[str], Graph]] = {make.__name__: make for make in _MAKERS}
