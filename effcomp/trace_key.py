"""What a graph of Dynamo's and its inputs say about the plan that AOTAutograd would lead to.

`trace_text` is everything that tracing and importing read; equal texts give equal plans. `unkept`
says why a plan, once made, may not be reached by that text alone. Whatever is not known to be safe
raises `Bypass`: then AOTAutograd decides, as always.
"""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._guards import TracingContext
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses import FakeTensor
from torch.fx import GraphModule, Node
from torch.nn import Parameter

_TORCH_FILES = str(Path(torch.__file__).parent) + os.sep
# Where functions come from that do the same in every process of one version of torch.
_COMPILED_MODULES = frozenset({
    "_operator", "builtins", "math", "torch", "torch._C", "torch._C._fft", "torch._C._linalg",
    "torch._C._nn", "torch._C._sparse", "torch._C._special",
})  # fmt: skip
_PYTHON_MODULES = frozenset({"torch.functional", "torch.nn.functional"})
# Functions that matter for what they do: tracing heeds them, and what they set ends with it.
_WITHOUT_RESULT = frozenset({
    "_operator.setitem",
    "torch._C._log_api_usage_once",
    "torch._C._set_grad_enabled",
    "torch.amp.autocast_mode._enter_autocast",
    "torch.amp.autocast_mode._exit_autocast",
})  # fmt: skip
_ARGUMENTS = frozenset({
    type(None), type(...), bool, int, float, complex, str, torch.dtype, torch.device, torch.layout,
    torch.memory_format,
})  # fmt: skip
_OWN_LIBRARIES = frozenset({"aten", "prim", "prims"})
# For these torch itself registers kernels in Python; none of them is asked for what to trace.
_OWN_KERNELS = ("CUDA", "FuncTorch", "MPS", "Meta")


def needs_gradients(gm: GraphModule, inputs: Sequence[Any]) -> bool:
    """Whether AOTAutograd may build a backward graph: it looks at the same things."""
    tensors = (t for t in (*inputs, *gm.parameters()) if isinstance(t, Tensor))
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class Bypass(Exception):
    """A graph is none for the trace cache; the message says why."""


def trace_text(gm: GraphModule, inputs: Sequence[Any]) -> str:
    """All that shapes what AOTAutograd and the importer make of a graph. Raises Bypass."""
    _check_surroundings(gm)
    _check_operators()
    lines = [*_settings(inputs), *_inputs(inputs)]
    lines += [_node_text(node) for node in gm.graph.nodes]
    return "\n".join(lines)


def unkept(context: TracingContext, inputs: int) -> str:
    """What AOTAutograd found that its wrapper has to do around a compiled graph; empty: nothing.

    `inputs` is how many inputs Dynamo's graph has. Where the answer is empty, the wrapper comes
    down to calling the plan.
    """
    from torch._functorch._aot_autograd.schemas import PlainTensorMeta

    found = context.fw_metadata
    if found is None:
        return "AOTAutograd says nothing about it"
    metas = (*found.subclass_inp_meta, *found.subclass_fw_graph_out_meta)
    reasons = {
        "its inputs were regrouped": len(found.input_info) != inputs,
        "an output shares memory with an input": found.num_outputs_aliased_to_inputs,
        "outputs share memory": found.num_outputs_aliased_to_intermediates
        or found.num_intermediate_bases,
        "an input is mutated outside of the graph": found.num_mutated_inp_runtime_indices,
        "tensors of a subclass pass": not all(isinstance(m, PlainTensorMeta) for m in metas),
        "effects are ordered by tokens": found.tokens or found.num_backward_tokens,
        "random numbers are functionalized": found.is_rng_op_functionalized
        or found.num_graphsafe_rng_states,
        "an output has dynamic dims": found.dynamic_outputs,
        "it leaves another grad mode": found.grad_enabled_mutation is not None,
        "an output requires gradients": any(o.requires_grad for o in found.output_info),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def guard_count(context: TracingContext) -> int:
    """How many guards there are that compiling may add to: on aliasing, and on sizes."""
    shape_env = context.fake_mode.shape_env if context.fake_mode is not None else None
    sizes = len(shape_env.guards) if shape_env is not None else 0
    return len(context.guards_context.aotautograd_guards) + sizes


def _check_surroundings(gm: GraphModule) -> None:
    context = TracingContext.try_get()
    if context is None or "dynamo_compile_id" not in gm.meta:
        raise Bypass("the graph is not from Dynamo")
    if not hasattr(gm, "_param_name_to_source") or context.fakify_first_call:
        raise Bypass("the graph is a part of one from Dynamo")
    if next(gm.parameters(), None) is not None or next(gm.buffers(), None) is not None:
        raise Bypass("the graph holds tensors of its own")
    if next(gm.children(), None) is not None:
        raise Bypass("the graph holds modules or graphs of its own")
    if torch._C._is_any_autocast_enabled():
        raise Bypass("autocast is on")
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        raise Bypass("a dispatch mode is active")
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        raise Bypass("a transform of functorch is active")


def _check_operators() -> None:
    """Refuse programs that change how torch traces its own operators: their code is in no key."""
    for registered in torch.library._impls:
        library, _, rest = registered.partition("/")
        if library == "aten" and not rest.rpartition("/")[2].startswith(_OWN_KERNELS):
            raise Bypass(f"the program registers {registered}")
    for operator, parts in decomposition_table.items():
        own = not isinstance(operator, OpOverload) or operator.namespace in _OWN_LIBRARIES
        if own and not (_is_torchs(parts) and parts.__module__.startswith("torch.")):
            raise Bypass(f"the program takes {operator} apart in its own way")


def _settings(inputs: Sequence[Any]) -> list[str]:
    """Process-wide settings that tracing reads."""
    from torch._functorch import config
    from torch.backends import cpu, cuda, cudnn, mha, mkldnn, opt_einsum

    values = {
        "versions": (torch.__version__, torch.version.git_version, sys.version_info[:2]),
        "aot": config.get_hash().hex(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default": (torch.get_default_dtype(), torch.get_default_device()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
        ),
        # Read where a graph itself enters autocast.
        "autocast": [torch.get_autocast_dtype(kind) for kind in ("cpu", "cuda")],
        "attention": (
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.math_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
            mha.get_fastpath_enabled(),
        ),
        "libraries": (
            cudnn.enabled,
            cudnn.benchmark,
            cudnn.deterministic,
            mkldnn.is_available(),
            torch._C._get_mkldnn_enabled(),
            cpu.get_cpu_capability(),
        ),
        "einsum": (opt_einsum.is_available(), opt_einsum.enabled, opt_einsum.strategy),
        "devices": (torch.cuda.is_available(), _gpus(inputs)),
    }
    return [f"{name} {value}" for name, value in values.items()]


def _gpus(inputs: Sequence[Any]) -> list[str]:
    devices = {t.device for t in inputs if isinstance(t, Tensor) and t.device.type == "cuda"}
    found = ((str(d), torch.cuda.get_device_properties(d)) for d in devices)
    return sorted(f"{name} {p.name} {p.major}.{p.minor}" for name, p in found)


def _inputs(inputs: Sequence[Any]) -> list[str]:
    """Each input's data, and which earlier input it is or shares its storage with."""
    tensors: dict[int, int] = {}
    storages: dict[int, int] = {}
    lines: list[str] = []
    for position, x in enumerate(inputs):
        if type(x) is not Tensor and type(x) is not Parameter:
            raise Bypass(f"an input is a {type(x).__name__}")
        if x.layout is not torch.strided or x.is_quantized or x.is_nested:
            raise Bypass("an input is not a plain dense tensor")
        same = tensors.setdefault(id(x), position)
        shared = storages.setdefault(x.untyped_storage()._cdata, position)
        flags = (
            type(x) is Parameter,
            x.requires_grad,
            x.is_leaf,
            x._is_view(),
            x.is_inference(),
            x.is_conj(),
            x.is_neg(),
        )
        lines.append(f"{_tensor_text(x, x.device)} {flags} is {same} shares {shared}")
    return lines


def _tensor_text(x: Tensor, device: torch.device) -> str:
    shape, stride = tuple(x.shape), x.stride()
    if any(type(n) is not int for n in (*shape, *stride, x.storage_offset())):
        raise Bypass("a size is symbolic")
    return f"{x.dtype} {shape} {stride} {x.storage_offset()} {device}"


def _node_text(node: Node) -> str:
    """One node: what it computes, what it gave when Dynamo traced it, where it stands."""
    match node.op:
        case "placeholder":
            kept = node.meta.get("tensor_dict", {}).get("_dynamo_static_input_type")
            target = f"{node.target} {kept}"
        case "call_function":
            target = _function_name(node.target)
        case "call_method":
            target = _method_name(node)
        case "output":
            target = ""
        case _:
            raise Bypass(f"a node of kind {node.op} stands in the graph")
    stack = node.meta.get("nn_module_stack")
    module = [*stack.values()][-1][0] if stack else ""
    return (
        f"%{node.name} = {node.op} {target} {_argument(node.args)} {_argument(node.kwargs)}"
        f" : {_result(node, target)} @ {module!r} {node.meta.get('stack_trace')!r}"
    )


def _result(node: Node, target: str) -> str:
    if node.op == "output" or target in _WITHOUT_RESULT:
        return ""
    return _traced(node.meta.get("example_value"), target)


def _traced(value: Any, target: str) -> str:
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_traced(v, target) for v in value)})"
    if type(value) is not FakeTensor or value.layout is not torch.strided:
        raise Bypass(f"{target} gives {type(value).__name__}, no plain dense tensor")
    return _tensor_text(value, value.fake_device)


def _argument(x: Any) -> str:
    """An argument, exactly: numbers by repr, nodes by name."""
    if isinstance(x, Node):
        return f"%{x.name}"
    if type(x) in _ARGUMENTS:
        return repr(x)
    match x:
        case slice():
            return f"slice{_argument((x.start, x.stop, x.step))}"
        case list():
            return f"[{', '.join(map(_argument, x))}]"
        case tuple():
            return f"({', '.join(map(_argument, x))},)"
        case dict():
            return f"{{{', '.join(f'{_argument(k)}: {_argument(v)}' for k, v in x.items())}}}"
        case _:
            raise Bypass(f"an argument is a {type(x).__name__}")


def _method_name(node: Node) -> str:
    """A method of torch.Tensor that torch itself defines, called on what Dynamo traced."""
    name = str(node.target)
    method = getattr(Tensor, name, None)
    own = type(method).__name__ in ("method_descriptor", "wrapper_descriptor")
    if not own and not _is_torchs(method):
        raise Bypass(f"Tensor.{name} is not a method of torch's")
    if not isinstance(node.args[0], Node):
        raise Bypass(f"Tensor.{name} is called on no tensor")
    return f"Tensor.{name}"


@functools.cache
def _function_name(target: Any) -> str:
    """A function by the name under which every process finds this very one. Raises Bypass."""
    if isinstance(target, (OpOverload, OpOverloadPacket)):
        name = str(target)
        if name.partition(".")[0] not in _OWN_LIBRARIES:
            raise Bypass(f"{name} is an operator of another library")
        return name
    name = f"{getattr(target, '__module__', None)}.{getattr(target, '__name__', target)}"
    module, _, attribute = name.rpartition(".")
    if isinstance(target, BuiltinFunctionType):
        known = module in _COMPILED_MODULES
    else:
        public = module in _PYTHON_MODULES and not attribute.startswith("_")
        known = _is_torchs(target) and (public or name in _WITHOUT_RESULT)
    if not known or getattr(sys.modules.get(module), attribute, None) is not target:
        raise Bypass(f"{name} is no function of torch's that is known to be safe")
    return name


def _is_torchs(function: Any) -> bool:
    """Whether a Python function is defined in one of torch's files."""
    return isinstance(function, FunctionType) and function.__code__.co_filename.startswith(
        _TORCH_FILES
    )
