"""Plans survive the way to JSON and back, exactly."""

import math
from dataclasses import replace

import pytest

from effcomp.errors import PlanError
from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    Buffer,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    ConstArg,
    Cost,
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
from effcomp.plan.serialize import dump_plan, load_plan

SPEC = TensorSpec("f32", (2, "s0"), ("s0", 1))
CALL = AtenCall(
    "aten.add.Tensor",
    (BufferArg(0), ListArg((SizeArg("s0 + 1"), ListArg(()))), ConstArg(None)),
    (3, None),
    (("alpha", ConstArg(1.0)), ("device", TagArg("device", "plan"))),
)


def small_plan() -> Plan:
    kernel = TritonKernel(
        "k", 'x = "é\\n"\n', (KernelParam("x", "*f32"),), (("B", 128), ("E", 1e-5)), "d0"
    )
    region = RegionKernel("r", (CALL,), 1, (0, 3), "d1")
    places = (
        InputPlace(0),
        ConstantPlace(0),
        ArenaPlace(0, 2),
        OutputPlace(),
        CallPlace(2),
        ViewPlace(2, "s0 * 2"),
    )
    prologue = Plan("w", "cuda:90", (Port("w", SPEC, weight=True),), (), (), (), (), ())
    return Plan(
        name="g",
        target="cuda:90",
        ports=(Port("x", SPEC), Port("n", size="s0"), Port("w", SPEC, weight=True, mutated=True)),
        symbols=(SymbolSource("s0", 0, 1), SymbolSource("s1", 1)),
        buffers=tuple(Buffer(SPEC, place, f"b{i}") for i, place in enumerate(places)),
        kernels=(kernel, region),
        steps=(
            Launch("d0", (BufferArg(0), SizeArg("s0")), ("(s0 + 127) // 128", 1, 1), "one"),
            RunRegion("d1", (0,), (1, 2)),
            CallStep(CALL, "aten.add.out"),
        ),
        outputs=(OutputRef(buffer=3), OutputRef(size="s0"), OutputRef()),
        costs=(Cost("one", ("tensor.add",), "s0 * 8", 0),),
        prologue=prologue,
        prologue_ports=(2,),
        arena_order=(2,),
        notes=("a note",),
    )


def test_round_trip() -> None:
    plan = small_plan()
    text = dump_plan(plan)
    assert load_plan(text) == plan
    assert dump_plan(load_plan(text)) == text


def test_a_plan_without_an_order_of_the_arena_is_read() -> None:
    plan = replace(small_plan(), arena_order=(), prologue=None)
    text = dump_plan(plan)
    assert load_plan(text.replace('"arena_order":[],', "")) == plan
    assert '"arena_order":[],' in text


@pytest.mark.parametrize(
    "value", [True, False, 0, 1, 2**62, 0.0, 1.0, 1e-300, math.inf, -math.inf, "1", "true", None]
)
def test_constants_keep_their_type(value: bool | int | float | str | None) -> None:
    call = replace(CALL, args=(ConstArg(value),))
    (step,) = load_plan(dump_plan(replace(small_plan(), steps=(CallStep(call),)))).steps
    assert isinstance(step, CallStep)
    (arg,) = step.call.args
    assert isinstance(arg, ConstArg)
    assert arg.value == value
    assert type(arg.value) is type(value)


def test_nan_survives() -> None:
    call = replace(CALL, args=(ConstArg(math.nan),))
    (step,) = load_plan(dump_plan(replace(small_plan(), steps=(CallStep(call),)))).steps
    assert isinstance(step, CallStep)
    (arg,) = step.call.args
    assert isinstance(arg, ConstArg)
    assert isinstance(arg.value, float)
    assert math.isnan(arg.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a plan: the text"),
        ("{", "not a plan"),
        ("[]", "not a plan"),
        ('{"name": "g"}', "not a plan: target: Field required"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(text)


def test_unknown_fields_and_other_versions_are_refused() -> None:
    text = dump_plan(small_plan())
    with pytest.raises(PlanError, match="extra"):
        load_plan(text.replace('{"name"', '{"extra":1,"name"', 1))
    with pytest.raises(PlanError, match="version 0; this is version 1"):
        load_plan(dump_plan(replace(small_plan(), version=0)))
