"""A plan as text: every kind of buffer, step and argument reads as what it is."""

from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    Buffer,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    ConstArg,
    InputPlace,
    KernelParam,
    Launch,
    ListArg,
    OutputPlace,
    OutputRef,
    Plan,
    Port,
    RegionKernel,
    RunRegion,
    SizeArg,
    SymbolSource,
    TagArg,
    TensorSpec,
    TritonKernel,
    ViewPlace,
)
from effcomp.plan.text import print_plan

ROW = TensorSpec("f32", ("s0",), (1,))
PLAN = Plan(
    name="all",
    target="cuda:90",
    ports=(Port("x", ROW, mutated=True), Port("n", size="s0"), Port("w", ROW, weight=True)),
    symbols=(SymbolSource("s0", 1),),
    buffers=(
        Buffer(ROW, InputPlace(0), "x"),
        Buffer(ROW, ConstantPlace(0)),
        Buffer(ROW, ArenaPlace(0, 1), "h"),
        Buffer(TensorSpec("", (), ()), CallPlace(1)),
        Buffer(ROW, OutputPlace()),
        Buffer(ROW, ViewPlace(2, "s0 // 2")),
    ),
    kernels=(
        TritonKernel("exp", "", (KernelParam("x", "*fp32"),), (("B", 64),), "1"),
        RegionKernel("neg", (AtenCall("aten.neg.default", (BufferArg(0),), (1,)),), 1, (1,), "2"),
    ),
    steps=(
        Launch("1", (BufferArg(0), BufferArg(2), SizeArg("s0")), ("s0", 1, 1)),
        CallStep(
            AtenCall(
                "aten.f.default",
                (ListArg((BufferArg(5), ConstArg(None))),),
                (3, None),
                (("dtype", TagArg("dtype", "f32")),),
            )
        ),
        RunRegion("2", (0,), (4,)),
    ),
    outputs=(OutputRef(4), OutputRef(size="s0"), OutputRef()),
    prologue=Plan("w", "cuda:90", (Port("w", ROW),), (), (), (), (), ()),
    prologue_ports=(2,),
    arena_order=(2,),
    notes=("one remark",),
)
TEXT = """\
plan @all for cuda:90
  prologue of port 2
    plan @w for cuda:90
      port 0 w: f32[s0] strides [1]
      return
  port 0 x: f32[s0] strides [1] mutated
  port 1 n: size s0
  port 2 w: f32[s0] strides [1] weight
  size s0 = port 1
  %0 x: f32[s0] strides [1] at port 0
  %1: f32[s0] strides [1] constant 0
  %2 h: f32[s0] strides [1] in arena 0..1
  %3: any from call ..1
  %4: f32[s0] strides [1] to the caller
  %5: f32[s0] strides [1] view of %2 from s0 // 2
  arena places %2 first
  kernel exp: triton, 4 warps, 2 stages, B=64
  kernel neg: region of aten.neg.default
  step 0: launch exp(%0, %2, s0) on [s0, 1, 1]
  step 1: %3, _ = aten.f.default([%5, None], dtype=dtype<f32>)
  step 2: %4 = region neg(%0)
  return %4, size s0, none
  note one remark
"""


def test_every_kind_of_line() -> None:
    assert print_plan(PLAN) == TEXT
