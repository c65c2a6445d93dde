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
    lines: dict[str, None] = {"import triton": None, "import triton.language as tl": None}
    functions: dict[str, str] = {}
    _collect(kernel, lines, functions)
    return "\n".join([*lines, "", "", "\n\n\n".join(functions.values()), ""]), python.__name__


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


def _collect(kernel: Any, lines: dict[str, None], functions: dict[str, str]) -> None:
    """Write down a jitted function, and before it whatever it names."""
    python = _python_of(kernel)
    assert python is not None, "checked by the caller"
    if python.__closure__:
        raise LoweringError(
            f"kernel {python.__name__} closes over local names; define it in a module, and pass "
            "what changes as a constexpr"
        )
    text = textwrap.dedent(inspect.getsource(python))
    functions.setdefault(python.__name__, "")  # a function may call itself
    for name, value in _names_in(text, python):
        match value:
            case types.ModuleType():
                if value.__name__.partition(".")[0] not in ("triton", "math"):
                    raise LoweringError(
                        f"kernel {python.__name__} names module {name!r}: a kernel knows Triton's"
                    )
                module = value.__name__
                lines[f"import {module}" if module == name else f"import {module} as {name}"] = None
            case bool() | int() | float() | str():
                lines[f"{name} = tl.constexpr({value!r})"] = None
            case _ if type(value).__name__ == "constexpr" and isinstance(value.value, _PLAIN):
                lines[f"{name} = tl.constexpr({value.value!r})"] = None
            case _ if _python_of(value) is not None and name == value.__name__:
                if name not in functions:
                    _collect(value, lines, functions)
            case _:
                raise LoweringError(
                    f"kernel {python.__name__} names {name!r}, a {type(value).__name__}: only "
                    "jitted functions, numbers and Triton's modules can come along"
                )
    # Callees first.
    functions.pop(python.__name__)
    functions[python.__name__] = text.strip()


def _names_in(text: str, python: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Global names that a function's text uses, and what they stand for."""
    used = dict.fromkeys(n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))
    known: Mapping[str, Any] = python.__globals__
    local = {python.__name__, *python.__code__.co_varnames}
    for name in used:
        if name in known and name not in local:
            yield name, known[name]
