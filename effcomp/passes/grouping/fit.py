"""What kernel a region would be, for each kind of group; Unfit where it would be none."""

from effcomp.ir import Op, Value
from effcomp.ir.dims import print_dim
from effcomp.passes.grouping.demand import MOST_MAPS, Demand, demand_of
from effcomp.passes.grouping.facts import Facts, Region
from effcomp.passes.grouping.roofline import Kernel, loop_kernel, product_kernel
from effcomp.passes.grouping.rows import Unfit, UnfitOutput, check_rows, common_rows
from effcomp.passes.grouping.sizes import is_equal, nbytes, numel, typical, typical_numel
from effcomp.passes.grouping.vocabulary import (
    PRODUCTS,
    VIEWS,
    is_elementwise,
    is_library_only,
)
from effcomp.target import Target

# Elements that one program of a pointwise kernel computes.
BLOCK = 1024
# Rows that one program computes where a row's elements are no neighbours in memory.
STRIDED_ROWS = 32


def fit_pointwise(facts: Facts, region: Region) -> Kernel:
    """One loop over the outputs' shape; another shape of as many elements is reshaped to it."""
    if not all(facts.pointwise[i] for i in region.ops):
        raise Unfit("")
    if not region.outputs:
        raise Unfit("")
    domain = region.outputs[0].shape
    for v in region.outputs[1:]:
        if not is_equal(numel(v.shape), numel(domain)):
            shapes = (f"[{', '.join(map(print_dim, s))}]" for s in (domain, v.shape))
            raise UnfitOutput(f"outputs differ in shape: {' and '.join(shapes)}")
    demand = _demand(facts, region, domain)
    size = typical_numel(domain)
    return loop_kernel(region.params, region.outputs, demand, size, max(1.0, size / BLOCK))


def fit_rowwise(facts: Facts, region: Region) -> Kernel:
    """One loop over rows; a region without a reduction counts as pointwise."""
    ops = [facts.ops[i] for i in region.ops]
    if not any(facts.reduction[i] for i in region.ops):
        return fit_pointwise(facts, region)
    if not region.outputs or not all(facts.groupable[i] for i in region.ops):
        raise Unfit("")
    rows = common_rows(ops)
    check_rows(ops, region.outputs, rows)
    demand = _demand(facts, region, rows.shape)
    size, count = typical_numel(rows.shape), float(typical(rows.count))
    programs = count if rows.trailing else count / STRIDED_ROWS
    return loop_kernel(region.params, region.outputs, demand, size, programs)


def _demand(facts: Facts, region: Region, domain: tuple[object, ...]) -> Demand:
    demand = demand_of([facts.ops[i] for i in region.ops], region.outputs, domain)  # pyright: ignore[reportArgumentType]
    if demand.most_maps > MOST_MAPS:
        raise Unfit(f"a value would be computed at more than {MOST_MAPS} index maps")
    return demand


def fit_epilogue(facts: Facts, region: Region, target: Target) -> Kernel:
    """One product with elementwise ops on its result; a region without one counts as pointwise."""
    ops = [facts.ops[i] for i in region.ops]
    products = [op for op in ops if op.name in PRODUCTS and not is_library_only(op)]
    if not products:
        return fit_pointwise(facts, region)
    if len(products) > 1 or not region.outputs:
        raise Unfit("")
    product = products[0]
    _check_epilogue(ops, region, product.result)
    size = typical_numel(product.result.shape)
    demand = _demand(facts, region, product.result.shape)
    read = float(sum(map(nbytes, product.operands)))
    rest = tuple(v for v in region.params if v not in product.operands)
    loop = loop_kernel(rest, region.outputs, demand, size, 1.0)
    flops = loop.flops if len(region.members) > 1 else 0.0
    return product_kernel(product, read + loop.read, loop.written, flops, target)


def _check_epilogue(ops: list[Op], region: Region, result: Value) -> None:
    """Every value made from the product has its elements, in its order."""
    made = {result}
    for op in ops:
        if op.result is result:
            continue
        if not (is_elementwise(op) or op.name in VIEWS) or op.name == "tensor.flip":
            raise Unfit(f"{op.name} is not allowed in an epilogue")
        if any(v in made for v in op.operands):
            if not is_elementwise(op) and op.name != "tensor.reshape":
                raise Unfit(f"{op.name} moves elements of the product")
            if not is_equal(numel(op.result.shape), numel(result.shape)):
                raise Unfit("it broadcasts the product")
            made.add(op.result)
    if any(v not in made for v in region.outputs):
        raise Unfit("")
