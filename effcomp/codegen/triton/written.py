"""A kernel that somebody wrote, as the text of a module that stands alone.

Nothing here imports Triton: a `@triton.jit` function is known by the Python function it wraps, and
what the plan holds is its source.
"""

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from effcomp.errors import LoweringError

_PLAIN = (bool, int, float, str)


@functools.lru_cache(maxsize=1024)
def module_text(kernel: Any) -> tuple[str, str]:
    """The source of a module that holds a jitted function, and the function's name.

    Jitted functions that it calls come along, as do the modules and the plain numbers that it
    names. Raises LoweringError for a name that cannot be written down.
    """
    python = _python_of(kernel)
    if python is None:
        raise LoweringError(f"{kernel!r} is no @triton.jit function; give one, or its source text")
    module = _Module({"import triton": None, "import triton.language as tl": None}, {})
    module.collect(kernel)
    functions = [text for _, text in module.functions.values()]
    source = "\n".join([*module.lines, "", "", "\n\n\n".join(functions), ""])
    return source, python.__name__


def parameters(source: str, function: str) -> dict[str, bool]:
    """The names of a kernel's parameters in order, and whether each is annotated as constexpr."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise LoweringError(f"the source of kernel {function!r} is no Python: {error}") from None
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            return {a.arg: _is_constexpr(a.annotation) for a in arguments}
    raise LoweringError(f"the kernel's source defines no function {function!r}")


def _is_constexpr(annotation: ast.expr | None) -> bool:
    return annotation is not None and "constexpr" in ast.unparse(annotation)


def _python_of(kernel: Any) -> types.FunctionType | None:
    """The function under the decorators of Triton; None where that is no jitted function."""
    inner = getattr(kernel, "fn", None)
    while inner is not None and not isinstance(inner, types.FunctionType):
        inner = getattr(inner, "fn", None)
    return inner


@dataclass(slots=True)
class _Module:
    """The module being written: imports and constants, then functions, callees first."""

    lines: dict[str, None]
    functions: dict[str, tuple[types.FunctionType, str]]

    def collect(self, kernel: Any) -> None:
        """Write down a jitted function, and before it whatever it names."""
        python = _python_of(kernel)
        assert python is not None, "checked by the caller"
        if type(kernel).__name__ in ("Autotuner", "Heuristics"):
            raise LoweringError(
                f"kernel {python.__name__} is tuned when it runs, and a plan holds one choice: "
                "give the jitted function itself, and constants, num_warps and num_stages"
            )
        if python.__closure__:
            raise LoweringError(
                f"kernel {python.__name__} closes over local names; define it in a module, and "
                "pass what changes as a constexpr"
            )
        text = _definition(python)
        self.functions[python.__name__] = python, ""  # a function may call itself
        for name, value in _names_in(text, python):
            self._name(python, name, value)
        self.functions.pop(python.__name__)
        self.functions[python.__name__] = python, text

    def _name(self, reader: types.FunctionType, name: str, value: Any) -> None:
        home = str(getattr(value, "__module__", ""))
        called = _python_of(value)
        match value:
            case types.ModuleType() if value.__name__.partition(".")[0] in ("triton", "math"):
                module = value.__name__
                self._line(f"import {module}" if module == name else f"import {module} as {name}")
            case bool() | int() | float() | str():
                self._line(f"{name} = tl.constexpr({value!r})")
            case _ if type(value).__name__ == "constexpr" and isinstance(value.value, _PLAIN):
                self._line(f"{name} = tl.constexpr({value.value!r})")
            case _ if home.partition(".")[0] == "triton" and value.__name__ == name:
                self._line(f"from {home} import {name}")
            case _ if called is not None and called.__name__ == name:
                known = self.functions.get(name)
                if known is not None and known[0] is not called:
                    raise LoweringError(f"kernel {reader.__name__} needs two functions {name!r}")
                if known is None:
                    self.collect(value)
            case _:
                raise LoweringError(
                    f"kernel {reader.__name__} names {name!r}, a {type(value).__name__}: only "
                    "jitted functions, numbers and Triton's modules can come along"
                )

    def _line(self, line: str) -> None:
        self.lines[line] = None


def _definition(python: types.FunctionType) -> str:
    """A function's text under the one decorator it needs, however the author spelt that."""
    text = textwrap.dedent(inspect.getsource(python))
    node = ast.parse(text).body[0]
    return "\n".join(["@triton.jit", *text.splitlines()[node.lineno - 1 :]]).rstrip()


def _names_in(text: str, python: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Global names that a function's text uses, and what they stand for."""
    used = dict.fromkeys(n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))
    known: Mapping[str, Any] = python.__globals__
    local = {python.__name__, *python.__code__.co_varnames}
    for name in used:
        if name in known and name not in local:
            yield name, known[name]
