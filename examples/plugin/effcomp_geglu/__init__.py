"""GEGLU, the gated feed-forward of many diffusion models, as one op with a kernel of its own.

    hidden, gate = project(x).chunk(2, dim=-1)
    return hidden * gelu(gate)                        # becomes geglu.gate(project(x))

Installed (`pip install ./examples/plugin`), it is part of every effcomp pipeline: importing this
module registers an op, and a pass with one rule that finds it in models.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

import effcomp as ec

BLOCK = 1024


def gate_in_torch(h: Tensor) -> Tensor:
    """What the op means: the oracle, the way of CPUs, and the fallback of GPUs."""
    hidden, gate = h.chunk(2, dim=-1)
    return hidden * torch.nn.functional.gelu(gate)


@triton.jit
def geglu_kernel(h_ptr, out_ptr, numel, columns, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, column = at // columns, at % columns
    first = row * columns * 2 + column
    hidden = tl.load(h_ptr + first, mask=at < numel).to(tl.float32)
    gate = tl.load(h_ptr + first + columns, mask=at < numel).to(tl.float32)
    gelu = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(out_ptr + at, hidden * gelu, mask=at < numel)


def emit_gate(op: ec.Op, target: object) -> object:
    """One program for each BLOCK of the result."""
    h, out = op.operands[0], op.result
    if h.dtype == "f64":
        return ec.Refused("the kernel computes in float32")
    numel = out.tensor.numel
    args = [h, out, numel, out.shape[-1]]
    return ec.launch(geglu_kernel, args, grid=ec.ceil_div(numel, BLOCK), constants={"BLOCK": BLOCK})


@ec.op("geglu.gate", reference=gate_in_torch, triton=emit_gate)
def gate(h: ec.TensorType) -> ec.TensorType:
    """h[..., :C] * gelu(h[..., C:]) for h[..., 2 C] (Shazeer 2020)."""
    columns = h.shape[-1]
    ec.require(isinstance(columns, int) and columns % 2 == 0, f"{h} has no two equal halves")
    return h.with_shape(*h.shape[:-1], ec.ceil_div(columns, 2))


@dataclass(frozen=True)
class FuseGeglu(ec.Rule[None]):
    """h[..., :C] * gelu(h[..., C:]) => geglu.gate(h)."""

    def pattern(self) -> ec.Pattern:
        halves = [ec.pat(ec.ops.view.slice_, ec.var("h")).named(name) for name in ("left", "right")]
        gelu = ec.pat(ec.ops.elementwise.gelu, halves[1], approximate="none")
        return ec.pat(ec.ops.elementwise.mul, halves[0], gelu)

    def check(self, m: ec.Match) -> ec.Refused | None:
        h = m["h"]
        size = h.shape[-1]
        if not isinstance(size, int) or size % 2:
            return ec.Refused(f"the last dim of {h.type} is not known to have two halves")
        for name, start in (("left", 0), ("right", size // 2)):
            op = m.ops[name]
            last = ec.attr(op, "dim") % len(h.shape) == len(h.shape) - 1
            bounds = (ec.attr(op, "start"), ec.attr(op, "stop"), ec.attr(op, "step"))
            if not last or bounds != (start, start + size // 2, 1):
                return ec.Refused(f"the {name} factor is not that half of {h.type}")
        return None

    def rewrite(self, m: ec.Match, b: ec.Builder, facts: None) -> ec.Value:
        return b.add(gate, m["h"])


ec.register(ec.pass_of("fuse-geglu", FuseGeglu()), after="cse")
