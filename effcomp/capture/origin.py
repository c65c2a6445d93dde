"""Where a node came from: its line in the model, its module, and names worth reading."""

import re
from collections.abc import Iterable
from pathlib import PurePath

import torch
from torch.fx import Node

from effcomp.ir.text import clean_hint

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_TORCH = str(PurePath(torch.__file__).parent) + "/"
_PLACEHOLDER = re.compile(r"^[lL]_|_$")


def source_line(node: Node) -> str:
    """`modeling_llama.py:64`: the innermost frame that is not torch's own; empty if unknown."""
    frame = next(iter(reversed(_frames(node))), None)
    return f"{PurePath(frame['file']).name}:{frame['line']}" if frame else ""


def module_path(node: Node) -> str:
    """`layers.0.self_attn`: the innermost module that was running; empty if none was."""
    stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack") or {}
    return clean_path([*stack.values()][-1][0]) if stack else ""


def clean_path(path: str) -> str:
    """`L['self'].layers.0`, `L['self']._modules['layers']._modules['0']` => `layers.0`."""
    path = re.sub(r"^L\['self'\]", "", path)
    path = re.sub(r"\.__dict__(?=\[)|\._modules(?=\[)|\['_modules'\]", "", path)
    path = re.sub(r"L?\['?([^\[\]']*)'?\]", r".\1", path)
    return re.sub(r"[^\w.]+", "_", path).strip("._")


def node_hint(node: Node) -> str:
    """`add_12` => `add`: the printer numbers values itself."""
    return clean_hint(re.sub(r"(_\d+)+$|^_+", "", node.name))


def param_hint(name: str) -> str:
    """`l_self_modules_norm_parameters_weight_` => `norm_weight`; `p_norm_weight` => the same."""
    name = re.sub(r"^[pbc]_", "", _PLACEHOLDER.sub("", name))
    name = re.sub(r"^self_+(?:dict_+)?|_?(?:modules|parameters|buffers)_+", "_", name)
    return clean_hint(re.sub(r"_+", "_", name).strip("_"))


def graph_title(nodes: Iterable[Node]) -> str:
    """A name for what was traced: the file that defines the module, or the function's own name."""
    frames = next(filter(None, map(_frames, nodes)), [])
    if forward := next((f for f in frames if f["function"] == "forward"), None):
        return snake_case(PurePath(forward["file"]).stem)
    return snake_case(frames[0]["function"]) if frames else "graph"


def _frames(node: Node) -> list[re.Match[str]]:
    trace = node.meta.get("stack_trace") or ""
    return [f for f in _FRAME.finditer(trace) if not f["file"].startswith(_TORCH)]


def snake_case(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return clean_hint(spaced).lower().strip("_") or "graph"
