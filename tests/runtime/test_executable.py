"""Plans run: every kind of place and step, sizes, mutation, aliasing, errors."""

from __future__ import annotations

import threading
import weakref

import pytest
import torch

from effcomp.errors import DeviceError, PlanError
from effcomp.plan.schema import (
    ArenaPlace,
    AtenCall,
    BufferArg,
    CallPlace,
    CallStep,
    ConstantPlace,
    ConstArg,
    InputPlace,
    ListArg,
    OutputPlace,
    OutputRef,
    Plan,
    Port,
    TagArg,
    ViewPlace,
)
from effcomp.runtime import Executable, load, release
from effcomp.runtime.calls import may_alias
from effcomp.runtime.ports import admit
from tests.runtime.plans import buffer, call, plan, port

CPU = torch.device("cpu")


def mm_plan() -> Plan:
    """(x @ w) + x[:, :3], a product through the arena; x is [s0, 4], w is [4, 3]."""
    return plan(
        ports=[port("x", "s0", 4), port("w", 4, 3, weight=True)],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0", 4),
            buffer(InputPlace(1), 4, 3),
            buffer(ArenaPlace(0, 1), "s0", 3, name="product"),
            buffer(ViewPlace(0), "s0", 3, strides=(4, 1)),
            buffer(OutputPlace(), "s0", 3, name="result"),
        ],
        steps=[
            call("mm.default", 0, 1, to=[2], out="out"),
            call("add.Tensor", 2, 3, to=[4], out="out"),
        ],
        outputs=[4, OutputRef(size="s0 * 2"), OutputRef()],
    )


def test_steps_views_and_sizes() -> None:
    run = load(mm_plan(), CPU)
    w = torch.randn(4, 3)
    for rows in (5, 1, 0, 9, 5):
        x = torch.randn(rows, 4)
        out, size, nothing = run([x, w])
        torch.testing.assert_close(out, x @ w + x[:, :3])
        assert size == rows * 2
        assert nothing is None
        assert run.last_sizes == {"s0": rows}
    assert run.peak_bytes == 64 + 5 * 3 * 4
    assert run.notes == ()


def test_arguments_are_taken_from_the_list() -> None:
    args = [torch.randn(2, 4), torch.randn(4, 3)]
    load(mm_plan(), CPU)(args)
    assert args == []


def test_constants_fill_the_last_ports() -> None:
    w, x = torch.randn(4, 3), torch.randn(2, 4)
    out, *_ = load(mm_plan(), CPU, constants=(w,))([x])
    torch.testing.assert_close(out, x @ w + x[:, :3])


def test_outputs_outlive_later_calls() -> None:
    run = load(mm_plan(), CPU)
    w = torch.randn(4, 3)
    inputs = [torch.randn(4, 4) for _ in range(100)]
    outputs = [run([x, w])[0] for x in inputs]
    for x, out in zip(inputs, outputs, strict=True):
        torch.testing.assert_close(out, x @ w + x[:, :3])
    assert len({out.data_ptr() for out in outputs}) == 100


def test_outputs_are_normal_tensors() -> None:
    run = load(mm_plan(), CPU)
    x, w = torch.randn(2, 4), torch.randn(4, 3, requires_grad=True)
    with torch.inference_mode():
        run([x, w])
    out, *_ = run([x, w])
    assert not out.requires_grad
    assert not out.is_inference()
    (out * w.sum()).sum().backward()
    with torch.inference_mode():
        out, *_ = run([x.clone(), w])
    assert out.is_inference()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([torch.ones(2, 4)], "takes 2 arguments, not 1"),
        ([torch.ones(2, 4).double(), torch.ones(4, 3)], r"argument 0 \('x'\).*float64"),
        ([torch.ones(2, 5), torch.ones(4, 3)], r"\[2, 5\].*takes a tensor of.*\[2, 4\]"),
        ([torch.ones(2, 4), 3], r"argument 1 \('w'\) of test is 3"),
        ([torch.ones(()), torch.ones(4, 3)], "should have a dim 0 to tell s0"),
        ([torch.ones(2, 4), torch.ones(4, 3, device="meta")], "on meta"),
    ],
)
def test_wrong_arguments(args: list, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load(mm_plan(), CPU)(args)


def test_other_strides_are_copied_and_counted() -> None:
    run = load(mm_plan(), CPU)
    x, w = torch.randn(4, 2).t(), torch.randn(4, 3)
    for _ in range(2):
        out, *_ = run([x, w])
    torch.testing.assert_close(out, x @ w + x[:, :3])
    assert run.notes == ("argument 'x' came with other strides than compiled for: copied (x2)",)
    # Strides of dims of size 1 mean nothing.
    run = load(mm_plan(), CPU)
    run([torch.randn(1, 4).as_strided((1, 4), (77, 1)), w])
    assert run.notes == ()


def counter_plan() -> Plan:
    """state += x in place; returns state itself."""
    return plan(
        ports=[port("state", 3, mutated=True), port("x", 3)],
        buffers=[buffer(InputPlace(0), 3), buffer(InputPlace(1), 3)],
        steps=[call("add_.Tensor", 0, 1, to=[0])],
        outputs=[0],
    )


def test_a_view_of_a_copied_argument_is_one_of_the_argument(monkeypatch) -> None:
    p = plan(
        ports=[port("x", 4, 4), port("y", 4, 4)],
        buffers=[
            buffer(InputPlace(0), 4, 4),
            buffer(InputPlace(1), 4, 4),
            buffer(ViewPlace(0, 5), 2, 3, strides=(4, 1)),
            buffer(ViewPlace(1), 4, strides=(5,)),
        ],
        steps=[],
        outputs=[2, 3],
    )

    def admit_copies(plan, expected, args, *rest):
        """As on a GPU, where kernels take aligned addresses only."""
        args[0] = args[0].clone()
        return admit(plan, expected, args, *rest)

    monkeypatch.setattr("effcomp.runtime.executable.admit", admit_copies)
    x, y = torch.randn(5, 4)[1:], torch.randn(4, 4)
    part, diagonal = load(p, CPU)([x, y])
    assert part.data_ptr() == x[1, 1].data_ptr()
    assert torch.equal(part, x[1:3, 1:])
    assert diagonal.data_ptr() == y.data_ptr()


def test_mutation_reaches_the_caller() -> None:
    run = load(counter_plan(), CPU)
    state = torch.zeros(3)
    version = state._version
    (out,) = run([state, torch.ones(3)])
    (out,) = run([state, torch.ones(3)])
    assert out is state
    assert state.tolist() == [2, 2, 2]
    assert state._version > version
    with pytest.raises(PlanError, match="state"):
        run([torch.zeros(6)[::2], torch.ones(3)])


def test_call_results_are_checked_and_laid_out() -> None:
    stated = plan(
        ports=[port("x", 2, 3)],
        buffers=[
            buffer(InputPlace(0), 2, 3),
            buffer(CallPlace(1), 3, 2),
            buffer(CallPlace(1), 3, 2),
            buffer(OutputPlace(), 3, 2),
        ],
        steps=[
            call("t.default", 0, to=[1]),
            call("mul.Tensor", 1, 2.0, to=[3]),
        ],
        outputs=[3, 1],
    )
    run = load(stated, CPU)
    x = torch.randn(2, 3)
    doubled, turned = run([x])
    assert doubled.is_contiguous()
    assert turned.is_contiguous()
    torch.testing.assert_close(doubled, x.t() * 2)
    torch.testing.assert_close(turned, x.t())
    assert run.notes == ("aten.t.default returned strides other than the plan states: copied",)


def test_untyped_intermediates() -> None:
    """What passes between the calls of one op has no stated type and is not checked."""
    between = plan(
        ports=[port("x", 4)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(CallPlace(1), dtype=""),
            buffer(CallPlace(1), dtype=""),
            buffer(OutputPlace(), 4),
        ],
        steps=[
            call("sort.default", 0, to=[1, 2]),
            call("add.Tensor", 1, 2, to=[3], out="out"),
        ],
        outputs=[3],
    )
    (out,) = load(between, CPU)([torch.tensor([3.0, 1.0, 4.0, 2.0])])
    assert out.tolist() == [2, 5, 3, 6]


def test_a_result_of_another_shape_is_an_error() -> None:
    wrong = plan(
        ports=[port("x", 2)],
        buffers=[buffer(InputPlace(0), 2), buffer(CallPlace(0), 3)],
        steps=[call("neg.default", 0, to=[1])],
        outputs=[1],
    )
    with pytest.raises(PlanError, match=r"aten.neg.default returned torch.float32 \[2\]"):
        load(wrong, CPU)([torch.ones(2)])


def test_several_results_lists_tags_and_dropped_results() -> None:
    names = plan(
        ports=[port("x", 4)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(CallPlace(3), 4),
            buffer(CallPlace(3), 2),
            buffer(CallPlace(3), 2),
            buffer(OutputPlace(), 6),
            buffer(CallPlace(3), 4, dtype="f64"),
        ],
        steps=[
            call("sort.default", 0, to=[1, None]),
            CallStep(AtenCall("aten.split.Tensor", (BufferArg(1), ConstArg(2)), (2, 3))),
            CallStep(
                AtenCall("aten.cat.default", (ListArg((BufferArg(3), BufferArg(0))),), (4,)),
                out="out",
            ),
            CallStep(
                AtenCall(
                    "aten._to_copy.default",
                    (BufferArg(0),),
                    (5,),
                    (("dtype", TagArg("dtype", "f64")), ("device", TagArg("device", "plan"))),
                )
            ),
        ],
        outputs=[4, 2, 5],
    )
    x = torch.tensor([3.0, 1.0, 4.0, 2.0])
    joined, low, double = load(names, CPU)([x])
    assert joined.tolist() == [3, 4, 3, 1, 4, 2]
    assert low.tolist() == [1, 2]
    assert double.dtype is torch.float64


def test_unknown_operators_and_tags() -> None:
    with pytest.raises(PlanError, match=r"no operator 'aten\.no_such\.default'"):
        load(
            plan(
                ports=[port("x", 2)],
                buffers=[buffer(InputPlace(0), 2), buffer(CallPlace(0), 2)],
                steps=[call("no_such.default", 0, to=[1])],
                outputs=[1],
            ),
            CPU,
        )([torch.ones(2)])


def test_a_view_that_an_operator_returns_keeps_its_arena_buffer() -> None:
    """`split` returns views: the arena buffer under them has to live as long as they do."""
    aliasing = plan(
        ports=[port("x", 4)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(ArenaPlace(0, 1), 4),
            buffer(CallPlace(3), 2),
            buffer(CallPlace(3), 2),
            buffer(ArenaPlace(2, 2), 4),  # would lie over buffer 1, were that dead
        ],
        steps=[
            call("neg.default", 0, to=[1], out="out"),
            CallStep(AtenCall("aten.split.Tensor", (BufferArg(1), ConstArg(2)), (2, 3))),
            call("exp.default", 0, to=[4], out="out"),
        ],
        outputs=[2, 3],
    )
    run = load(aliasing, CPU)
    first = run([torch.arange(4.0)])
    run([torch.zeros(4)])
    assert [t.tolist() for t in first] == [[0, -1], [-2, -3]]


def test_arena_and_constant_outputs_are_cloned() -> None:
    kept = plan(
        ports=[port("x", 4)],
        buffers=[buffer(InputPlace(0), 4), buffer(ArenaPlace(0, 0), 4)],
        steps=[call("neg.default", 0, to=[1], out="out")],
        outputs=[1],
    )
    run = load(kept, CPU)
    (first,) = run([torch.ones(4)])
    run([torch.zeros(4)])
    assert first.tolist() == [-1] * 4


def weights_plan() -> Plan:
    """x * (w + 1), the sum made by the prologue."""
    prologue = plan(
        name="prologue",
        ports=[port("w", 4, weight=True)],
        buffers=[buffer(InputPlace(0), 4), buffer(OutputPlace(), 4)],
        steps=[call("add.Tensor", 0, 1.0, to=[1], out="out")],
        outputs=[1],
    )
    return plan(
        ports=[port("x", 4), port("w", 4, weight=True)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(ConstantPlace(0), 4),
            buffer(OutputPlace(), 4),
            buffer(ViewPlace(1, 2), 2),
        ],
        steps=[call("mul.Tensor", 0, 1, to=[2], out="out")],
        outputs=[2, 3],
        prologue=prologue,
        prologue_ports=(1,),
    )


def test_the_prologue_runs_when_a_weight_changes() -> None:
    run = load(weights_plan(), CPU)
    x, w = torch.ones(4), torch.ones(4)
    counted = run._prologue._run
    calls = []
    run._prologue._run = lambda args: calls.append(1) or counted(args)
    for _ in range(3):
        out, half = run([x, w])
    assert out.tolist() == [2] * 4
    assert half.tolist() == [2] * 2
    assert len(calls) == 1
    w.add_(1)  # in place
    assert run([x, w])[0].tolist() == [3] * 4
    assert run([x, torch.zeros(4)])[0].tolist() == [1] * 4  # another tensor
    assert half.tolist() == [2] * 2, "what a caller got does not change"
    assert len(calls) == 3
    with torch.inference_mode():
        frozen = torch.full((4,), 5.0)
    for _ in range(2):
        assert run([x, frozen])[0].tolist() == [6] * 4
    assert len(calls) == 4


def test_known_weights_are_looked_at_again_when_they_move() -> None:
    run = load(mm_plan(), CPU)
    x, w = torch.randn(2, 4), torch.nn.Parameter(torch.randn(4, 3))
    run([x, w])
    w.data = torch.randn(3, 4).t()
    out, *_ = run([x, w])
    torch.testing.assert_close(out, (x @ w + x[:, :3]).detach())
    assert run.notes == ("argument 'w' came with other strides than compiled for: copied",)
    w.data = torch.randn(5, 3)
    with pytest.raises(PlanError, match=r"argument 1 \('w'\)"):
        run([x, w])


def test_size_arguments() -> None:
    sized = plan(
        ports=[Port("s0", size="s0"), Port("twice", size="s0 * 2"), port("x", "s0")],
        symbols=[("s0", 0, -1)],
        buffers=[buffer(InputPlace(2), "s0"), buffer(OutputPlace(), "s0")],
        steps=[call("neg.default", 0, to=[1], out="out")],
        outputs=[1],
    )
    run = load(sized, CPU)
    assert run([3, 6, torch.ones(3)])[0].tolist() == [-1] * 3
    with pytest.raises(PlanError, match=r"argument 1 \('twice'\).* is 7.*s0 \* 2 = 6"):
        run([3, 7, torch.ones(3)])


def test_views_of_another_element_type() -> None:
    bits = plan(
        ports=[port("x", 4)],
        buffers=[
            buffer(InputPlace(0), 4),
            buffer(ArenaPlace(0, 1), 4),
            buffer(ViewPlace(1, 2), 2, dtype="i32"),
            buffer(OutputPlace(), 2, dtype="i32"),
        ],
        steps=[
            call("neg.default", 0, to=[1], out="out"),
            call("clone.default", 2, to=[3]),
        ],
        outputs=[3],
    )
    x = torch.randn(4)
    (out,) = load(bits, CPU)([x])
    assert out.tolist() == (-x).view(torch.int32)[2:].tolist()


def test_writing_an_output_through_views() -> None:
    halves = plan(
        ports=[port("x", "s0")],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0"),
            buffer(OutputPlace(), "s0 * 2"),
            buffer(ViewPlace(1), "s0"),
            buffer(ViewPlace(1, "s0"), "s0"),
        ],
        steps=[
            call("neg.default", 0, to=[2], out="out"),
            call("exp.default", 0, to=[3], out="out"),
        ],
        outputs=[1],
    )
    x = torch.randn(3)
    (out,) = load(halves, CPU)([x])
    torch.testing.assert_close(out, torch.cat([-x, x.exp()]))


def test_threads_share_an_executable() -> None:
    run = load(mm_plan(), CPU)
    w = torch.randn(4, 3)
    wrong: list[int] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for i in range(50):
            x = torch.randn(1 + (seed + i) % 4, 4, generator=generator)
            if not torch.allclose(run([x, w])[0], x @ w + x[:, :3], atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def bound_sizes(run: Executable) -> list[tuple[int, ...]]:
    free = run._workspaces._free.get(CPU, ())
    return [key for workspace in free for key in workspace.bound.get(run._bindings, ())]


def test_outgrown_arenas_are_freed() -> None:
    """Also those that other sizes and other executables have been bound to."""
    release()
    first, second = load(mm_plan(), CPU), load(mm_plan(), CPU)
    w = torch.randn(4, 3)
    arenas: list[weakref.ref[torch.Tensor]] = []
    for rows in (2, 200, 20000):
        for run in (first, second):
            run([torch.randn(rows, 4), w])
            (workspace,) = run._workspaces._free[CPU]
            arenas.append(weakref.ref(workspace.base))
    assert {id(ref()) for ref in arenas if ref() is not None} == {id(workspace.base)}
    assert bound_sizes(first) == bound_sizes(second) == [(20000,)]


def test_release_drops_arenas_and_calls_go_on() -> None:
    run = load(mm_plan(), CPU)
    x, w = torch.randn(2, 4), torch.randn(4, 3)
    (kept, *_) = run([x, w])
    release()
    assert not bound_sizes(run)
    (again, *_) = run([x, w])
    torch.testing.assert_close(kept, again)


def test_many_sizes_are_bounded() -> None:
    from effcomp.runtime import executable

    run = load(mm_plan(), CPU)
    w = torch.randn(4, 3)
    for rows in reversed(range(executable._MOST_BOUND + 8)):  # growing would forget
        run([torch.randn(rows, 4), w])
    assert len(bound_sizes(run)) == executable._MOST_BOUND


def test_out_of_memory_names_the_largest_buffers() -> None:
    huge = plan(
        name="huge",
        ports=[port("x", "s0")],
        symbols=[("s0", 0, 0)],
        buffers=[
            buffer(InputPlace(0), "s0"),
            buffer(OutputPlace(), "s0 * 1000000000000", name="enormous"),
        ],
        steps=[call("neg.default", 0, to=[1], out="out")],
        outputs=[1],
    )
    with pytest.raises(DeviceError, match=r"out of memory in plan huge.*enormous"):
        load(huge, CPU)([torch.ones(4)])


def test_malformed_plans() -> None:
    def bad(message: str, **parts) -> None:
        given = {
            "ports": [port("x", 2)],
            "buffers": [buffer(InputPlace(0), 2)],
            "steps": [],
            "outputs": [0],
            **parts,
        }
        with pytest.raises(PlanError, match=message):
            load(plan(**given), CPU)

    bad("reads port 3", buffers=[buffer(InputPlace(3), 2)])
    bad("uses buffer 9 of 1", steps=[call("neg.default", 9, to=[0])])
    bad("there is no prologue", buffers=[buffer(ConstantPlace(0), 2)])
    bad("returns buffer 4 of 1", outputs=[4])
    bad("view of itself", buffers=[buffer(ViewPlace(1), 2), buffer(ViewPlace(0), 2)])
    bad(
        "lives from step 1 to 1",
        buffers=[buffer(InputPlace(0), 2), buffer(ArenaPlace(1, 1), 2)],
        steps=[call("neg.default", 0, to=[1], out="out")],
    )


def test_a_cpu_plan_does_not_load_on_a_gpu() -> None:
    with pytest.raises(DeviceError, match="is for cpu"):
        load(mm_plan(), torch.device("cuda", 0))


def test_calls_wait_for_a_prologue_on_another_stream(monkeypatch) -> None:
    """Until it is done; a fake stands in for CUDA's events."""
    from effcomp.runtime.prologue import Prologue

    waited: list[object] = []

    class Event:
        done = False

        def record(self) -> None:
            waited.clear()

        def query(self) -> bool:
            return self.done

    class Stream:
        wait_event = staticmethod(waited.append)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    weight = torch.ones(3)
    prologue = Prologue(lambda args: [args[0] * 2], (0,))
    assert prologue.update([weight])
    assert not waited
    for _ in range(2):
        assert not prologue.update([weight])
    assert len(waited) == 2
    Event.done = True
    assert not prologue.update([weight])
    assert len(waited) == 2
    assert prologue._done is None


def test_operators_that_compute_return_memory_of_their_own() -> None:
    assert not may_alias("aten.scaled_dot_product_attention.default")
    assert not may_alias("aten.mm.default")
    assert may_alias("aten.dropout.default")
    assert may_alias("aten.reshape.default")
