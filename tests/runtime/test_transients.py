"""Buffers leave the arena where that lowers the peak, and results stay what they were."""

from __future__ import annotations

import torch

from effcomp.plan.schema import (
    ArenaPlace,
    CallPlace,
    ConstArg,
    InputPlace,
    ListArg,
    OutputPlace,
    Plan,
)
from effcomp.runtime import load
from effcomp.runtime.layouts import Layout, arena_layout, fresh_bytes, layout_of
from effcomp.runtime.program import Program, analyze
from effcomp.runtime.transients import lighter
from tests.runtime.plans import buffer, call, plan, port

CUDA = torch.device("cuda", 0)
MIB = 2**20


def sandwich(rows: int) -> Plan:
    """A wide buffer of the arena first, then an operator that returns as much."""
    wide, narrow = (rows, 64), (rows, 1)
    return plan(
        ports=[port("x", *wide)],
        symbols=[],
        buffers=[
            buffer(InputPlace(0), *wide),
            buffer(ArenaPlace(0, 1), *wide, name="wide"),
            buffer(ArenaPlace(1, 3), *narrow, name="narrow"),
            buffer(CallPlace(3), *wide, name="returned"),
            buffer(OutputPlace(), *wide, name="result"),
        ],
        steps=[
            call("neg.default", 0, to=[1], out="out"),
            call("sum.dim_IntList", 1, ListArg((ConstArg(1),)), True, to=[2], out="IntList_out"),
            call("mul.Tensor", 0, 2, to=[3]),
            call("add.Tensor", 3, 2, to=[4], out="out"),
        ],
        outputs=[4],
    )


def needed(program: Program, layouts: list[Layout]) -> int:
    arena = arena_layout(program, layouts, CUDA)[1]
    return arena + max(fresh_bytes(program, layouts))


def test_large_buffers_leave_an_arena_that_operators_return_beside() -> None:
    whole = sandwich(65536)  # 16 MiB and 256 KiB
    program = analyze(whole)
    layouts = [layout_of(b, {}) for b in whole.buffers]
    made = lighter(program, layouts, CUDA)
    assert needed(program, layouts) == 48 * MIB + MIB // 4
    assert needed(made, layouts) == 32 * MIB + MIB // 4
    assert set(made.lifetimes) == {2}, "the narrow one stays"
    assert 1 in made.drop[1], "freed with its last reader"


def test_nothing_moves_on_a_cpu_or_where_it_brings_nothing() -> None:
    whole, small = sandwich(65536), sandwich(64)
    for p, device in ((whole, torch.device("cpu")), (small, CUDA)):
        program = analyze(p)
        assert lighter(program, [layout_of(b, {}) for b in p.buffers], device) is program


def test_a_lighter_program_computes_the_same() -> None:
    p = sandwich(65536)
    moved = lighter(analyze(p), [layout_of(b, {}) for b in p.buffers], CUDA).plan
    assert moved != p
    x = torch.randn(65536, 64)
    cpu = torch.device("cpu")
    assert torch.equal(load(moved, cpu)([x])[0], load(p, cpu)([x])[0])
