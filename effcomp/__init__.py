"""effcomp: an optimizing compiler for PyTorch models.

`torch.compile(model, backend="effcomp")` needs no import of this package: torch finds the
backend by its entry point. The names here load what they stand for on first use, so that
`import effcomp` costs nothing and `effcomp.ir` works where torch is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from effcomp.version import __version__ as __version__

if TYPE_CHECKING:
    from effcomp.ahead import compile
    from effcomp.api import reset
    from effcomp.codegen.custom import launch
    from effcomp.config import Config
    from effcomp.entry import backend
    from effcomp.errors import EffcompError
    from effcomp.explanation import explain
    from effcomp.ir import (
        Graph,
        Level,
        Op,
        OpSpec,
        TensorType,
        Trait,
        Value,
        attr,
        ops,
        print_graph,
    )
    from effcomp.ir.dims import ceil_div
    from effcomp.ir.spec import require
    from effcomp.passes.textual import parse_graph, parse_pipeline
    from effcomp.plugins import register, unregister
    from effcomp.plugins.custom import op
    from effcomp.rewrite import (
        Builder,
        Log,
        Match,
        Pass,
        Pattern,
        Pipeline,
        Refused,
        Rule,
        apply_rules,
        attr_var,
        const,
        either,
        maybe,
        maybe_var,
        outputs,
        pass_of,
        pat,
        rest,
        var,
    )
    from effcomp.runtime.model import CompiledModel
    from effcomp.runtime.opening import load

__all__ = [
    "Builder", "CompiledModel", "Config", "EffcompError", "Graph", "Level", "Log", "Match", "Op",
    "OpSpec", "Pass", "Pattern", "Pipeline", "Refused", "Rule", "TensorType", "Trait", "Value",
    "apply_rules", "attr", "attr_var", "backend", "ceil_div", "compile", "const", "either",
    "explain", "launch", "load", "maybe", "maybe_var", "op", "ops", "outputs", "parse_graph",
    "parse_pipeline", "pass_of", "pat", "print_graph", "register", "require", "reset", "rest",
    "unregister", "var",
]  # fmt: skip

_HOMES = {
    "Builder": "effcomp.rewrite",
    "CompiledModel": "effcomp.runtime.model",
    "Config": "effcomp.config",
    "EffcompError": "effcomp.errors",
    "Graph": "effcomp.ir",
    "Level": "effcomp.ir",
    "Log": "effcomp.rewrite",
    "Match": "effcomp.rewrite",
    "Op": "effcomp.ir",
    "OpSpec": "effcomp.ir",
    "Pass": "effcomp.rewrite",
    "Pattern": "effcomp.rewrite",
    "Pipeline": "effcomp.rewrite",
    "Refused": "effcomp.rewrite",
    "Rule": "effcomp.rewrite",
    "TensorType": "effcomp.ir",
    "Trait": "effcomp.ir",
    "Value": "effcomp.ir",
    "apply_rules": "effcomp.rewrite",
    "attr": "effcomp.ir",
    "attr_var": "effcomp.rewrite",
    "backend": "effcomp.entry",
    "ceil_div": "effcomp.ir.dims",
    "compile": "effcomp.ahead",
    "const": "effcomp.rewrite",
    "either": "effcomp.rewrite",
    "explain": "effcomp.explanation",
    "launch": "effcomp.codegen.custom",
    "load": "effcomp.runtime.opening",
    "maybe": "effcomp.rewrite",
    "maybe_var": "effcomp.rewrite",
    "op": "effcomp.plugins.custom",
    "ops": "effcomp.ir",
    "outputs": "effcomp.rewrite",
    "parse_graph": "effcomp.passes.textual",
    "parse_pipeline": "effcomp.passes.textual",
    "pass_of": "effcomp.rewrite",
    "pat": "effcomp.rewrite",
    "print_graph": "effcomp.ir",
    "register": "effcomp.plugins",
    "require": "effcomp.ir.spec",
    "reset": "effcomp.api",
    "rest": "effcomp.rewrite",
    "unregister": "effcomp.plugins",
    "var": "effcomp.rewrite",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
