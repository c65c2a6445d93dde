"""The hand-written Triton functions as text, each with those that it calls."""

import ast
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_PACKAGE = "effcomp.codegen.triton"


def functions_text(template: str, wanted: Iterable[str]) -> list[str]:
    """Source of the wanted functions of templates/<template>.py and of what they call, in order."""
    sources, calls = _functions(template)
    needed: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += calls[name]
    return [text for name, text in sources.items() if name in needed]


@cache
def _functions(template: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    # Not imported: templates import triton, which the compiler does without.
    text = files(_PACKAGE).joinpath("templates", f"{template}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = text.splitlines()
    sources: dict[str, str] = {}
    calls: dict[str, tuple[str, ...]] = {}
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    names = {f.name for f in functions}
    for f in functions:
        first = f.decorator_list[0].lineno if f.decorator_list else f.lineno
        sources[f.name] = "\n".join(lines[first - 1 : f.end_lineno])
        used = {n.id for n in ast.walk(f) if isinstance(n, ast.Name)} & names
        calls[f.name] = tuple(sorted(used - {f.name}))
    return sources, calls
