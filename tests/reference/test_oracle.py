"""What the oracle does beyond the table: state, bodies, sizes, errors; regions and FX as data."""

# ruff: noqa: E501

import pytest
import torch

from effcomp.errors import LoweringError, VerifyError
from effcomp.ir import Graph, Op, parse_graph, verify
from effcomp.plan.schema import AtenCall, BufferArg, ConstArg, ListArg, SizeArg, TagArg
from effcomp.reference import evaluate, region_of
from effcomp.reference.fx import to_fx


def graph_of(text: str) -> Graph:
    graph = parse_graph(text)
    verify(graph)
    return graph


BODIES = """graph @g(%x: f32[s0, 4], %w: weight f32[4], %n: size[s1]) {
  %0 = state.prologue(%w) : f32[4] @fold(%w: weight f32[4]) {
    %0 = tensor.constant() {dtype = "f32", value = 1.0} : f32[]
    %1 = tensor.add(%0, %w) : f32[4]
    return %1
  }
  %1 = tensor.constant() {dtype = "f32", value = 0.1} : f32[]
  %2, %3 = fused.rowwise(%x, %0, %1) : f32[s0], f32[s0, 4] @group(%a: f32[s0, 4], %b: f32[4], %c: f32[]) {
    %0 = tensor.mul(%a, %c) : f32[s0, 4]
    %1 = tensor.mul(%0, %b) : f32[s0, 4]
    %2 = tensor.sum(%1) {dims = [1]} : f32[s0]
    return %2, %1
  }
  %4 = tensor.broadcast(%2) {shape = [s1, s0]} : f32[s1, s0]
  %5 = tensor.size() {value = s0 * s1} : size[s0*s1]
  return %4, %3, %5, %n, %1, %x
}"""


def test_bodies_sizes_and_constants() -> None:
    x, w = torch.randn(3, 4), torch.randn(4)
    scaled = x * 0.1 * (1.0 + w)
    spread, inner, size, n, constant, same = evaluate(graph_of(BODIES), [x, w, 2])
    torch.testing.assert_close(inner, scaled, rtol=0, atol=0)
    torch.testing.assert_close(spread, scaled.sum(1).expand(2, 3), rtol=0, atol=0)
    assert (size, n) == (6, 2)
    torch.testing.assert_close(constant, torch.tensor(0.1))
    assert same is x


def test_a_constant_passed_into_a_body_stays_a_scalar() -> None:
    text = BODIES.replace(", %5, %n,", ",")
    calls = region_of(graph_of(text)).calls
    assert AtenCall("aten.mul.Tensor", (BufferArg(0), ConstArg(0.1)), (4,)) in calls
    assert AtenCall("aten.add.Tensor", (BufferArg(1), ConstArg(1.0)), (3,)) in calls


STATE = """graph @g(%cache: f32[6, 2], %new: f32[2, 2], %at: i64[2]) {
  %0 = tensor.neg(%cache) : f32[6, 2]
  %1 = state.index_put(%cache, %new, %at) {dims = [0]} : f32[6, 2]
  %2 = tensor.add(%1, %cache) : f32[6, 2]
  %3 = state.slice_put(%1, %new) {dim = 0, stop = 2} : f32[6, 2]
  return %0, %1, %2, %3
}"""


def test_state_is_written_and_earlier_values_keep() -> None:
    cache, new, at = torch.randn(6, 2), torch.randn(2, 2), torch.tensor([4, 3])
    before = cache.clone()
    once = before.index_put((at,), new)
    twice = once.slice_scatter(new, 0, 0, 2)
    found = evaluate(graph_of(STATE), [cache, new, at])
    for one, other in zip(found, (-before, once, once + before, twice), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    torch.testing.assert_close(cache, twice, rtol=0, atol=0)


def test_write_overwrites_the_argument() -> None:
    graph = graph_of("""graph @g(%x: f32[2], %y: f32[2]) {
      %0 = tensor.add(%x, %y) : f32[2]
      state.write(%x, %0) : none
      state.write(%y, %x) : none
      return %0
    }""")
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    evaluate(graph, [x, y])
    assert x.tolist() == [11.0, 22.0]
    assert y.tolist() == [1.0, 2.0]


ATEN = """graph @g(%x: f32[s0, 4], %i: i64[2]) {
  %0, %1 = aten.call(%x) {args = [#0, 1], target = "aten.sort.default", types = ["f32[s0, 4]", "i64[s0, 4]"]} : f32[s0, 4], i64[s0, 4]
  %2 = aten.call(%0, %i) {args = [#0, [none, #1]], target = "aten.index.Tensor", types = ["f32[s0, 2]"]} : f32[s0, 2]
  %3 = aten.call() {args = [[s0, 2]], kwargs = [["dtype", dtype<bf16>], ["device", device<cpu>]], target = "aten.ones.default", types = ["bf16[s0, 2]"]} : bf16[s0, 2]
  %4 = aten.call(%2) {args = [#0, complex(0.0, 1.0)], target = "aten.mul.Tensor", types = ["c64[s0, 2]"]} : c64[s0, 2]
  return %1, %2, %3, %4
}"""


def test_aten_calls_pass_through() -> None:
    x, i = torch.randn(3, 4), torch.tensor([0, 2])
    order, picked, ones, turned = evaluate(graph_of(ATEN), [x, i])
    torch.testing.assert_close(order, x.sort(1).indices)
    torch.testing.assert_close(picked, x.sort(1).values[:, i])
    torch.testing.assert_close(ones, torch.ones(3, 2, dtype=torch.bfloat16))
    torch.testing.assert_close(turned, picked * 1j)


def test_a_call_may_bring_a_new_size() -> None:
    graph = graph_of("""graph @g(%x: f32[s0]) {
      %0 = aten.call(%x) {args = [#0], target = "aten.nonzero.default", types = ["i64[u0, 1]"]} : i64[u0, 1]
      %1 = tensor.reshape(%0) {shape = [u0]} : i64[u0]
      %2 = tensor.size() {value = u0 + 1} : size[u0 + 1]
      return %1, %2
    }""")
    found, size = evaluate(graph, [torch.tensor([0.0, 3.0, 1.0])])
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [1, 2]
    assert size == 3


def test_arguments_have_to_fit() -> None:
    graph = graph_of("graph @g(%x: f32[s0, s0], %n: size[s0 + 1]) {\n return %x\n}")
    evaluate(graph, [torch.ones(2, 2), 3])
    with pytest.raises(VerifyError, match="takes 2 arguments, got 1"):
        evaluate(graph, [torch.ones(2, 2)])
    for args in ([torch.ones(2, 3), 3], [torch.ones(2, 2).double(), 3], [torch.ones(2, 2), 4]):
        with pytest.raises(VerifyError, match=r"argument . of @g is .*, declared"):
            evaluate(graph, args)


def test_a_result_has_to_be_what_its_type_says() -> None:
    graph = parse_graph("""graph @g(%x: f32[2]) {
      %0 = aten.call(%x) {args = [#0], target = "aten.neg.default", types = ["f32[3]"]} : f32[3]
      return %0
    }""")
    with pytest.raises(VerifyError, match=r"a result of aten.neg.default is torch.float32\[2\]"):
        evaluate(graph, [torch.ones(2)])


def test_what_has_no_row_is_named() -> None:
    x = parse_graph("graph @g(%x: f32[2]) {\n return %x\n}").params[0]
    op = Op("tensor.unheard_of", (x,), (), loc="model.py:3")
    with pytest.raises(LoweringError, match=r"tensor.unheard_of\(f32\[2\]\) has no row .*py:3"):
        region_of(Graph("g", (x,), (op,), ()))
    with pytest.raises(LoweringError, match=r"torch .* has no operator 'aten.nothing.default'"):
        evaluate(
            graph_of(ATEN.replace("aten.sort", "aten.nothing")),
            [torch.ones(1, 4), torch.ones(2).long()],
        )


def test_regions_are_data() -> None:
    text = """graph @a.b(%x: f32[s0, 4], %y: bf16[4]) {
      %0 = tensor.convert(%y) {dtype = "f32"} : f32[4]
      %1 = tensor.slice(%x) {dim = 0, start = 1, stop = s0} : f32[s0 - 1, 4]
      %2 = tensor.mul(%1, %0) : f32[s0 - 1, 4]
      %3 = tensor.full() {dtype = "f32", shape = [s0 - 1, 1], value = 0.0} : f32[s0 - 1, 1]
      return %2, %x, %3
    }"""
    region = region_of(graph_of(text))
    assert (region.function, region.inputs, region.outputs) == ("a_b", 2, (4, 0, 5))
    assert region.calls == (
        AtenCall(
            "aten._to_copy.default", (BufferArg(1),), (2,), (("dtype", TagArg("dtype", "f32")),)
        ),
        AtenCall(
            "aten.slice.Tensor",
            (BufferArg(0), ConstArg(0), ConstArg(1), SizeArg("s0"), ConstArg(1)),
            (3,),
        ),
        AtenCall("aten.mul.Tensor", (BufferArg(3), BufferArg(2)), (4,)),
        AtenCall(
            "aten.full.default",
            (ListArg((SizeArg("s0 - 1"), ConstArg(1))), ConstArg(0.0)),
            (5,),
            (("dtype", TagArg("dtype", "f32")), ("device", TagArg("device", "plan"))),
        ),
    )


def test_digests_ignore_names() -> None:
    text = "graph @one(%x: f32[2]) {\n %0 = tensor.neg(%x) : f32[2]\n return %0\n}"
    digest = region_of(graph_of(text)).digest
    renamed = text.replace("@one", "@two").replace("%x", "%y").replace("%0", "%z.0")
    assert region_of(graph_of(renamed)).digest == digest
    assert region_of(graph_of(text.replace("neg", "exp"))).digest != digest


@pytest.mark.parametrize("text", [BODIES, ATEN], ids=["bodies", "aten"])
def test_fx_agrees(text: str) -> None:
    graph = graph_of(text)
    args = [torch.randn(3, 4), torch.randn(4), 2] if text is BODIES else [
        torch.randn(3, 4), torch.tensor([0, 2])
    ]  # fmt: skip
    module = to_fx(graph)
    module.graph.lint()
    for one, other in zip(module(*args), evaluate(graph, args), strict=True):
        if isinstance(one, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        else:
            assert one == other


def test_fx_divides_exactly() -> None:
    graph = graph_of(
        "graph @g(%n: size[s0]) {\n %0 = tensor.iota() {size = s0**2/2 - s0/2} : i64[s0**2/2 - s0/2]\n return %0\n}"
    )
    for n in (4, 7):
        (found,) = to_fx(graph)(n)
        assert len(found) == n * (n - 1) // 2
