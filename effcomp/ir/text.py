"""Textual IR: `print_graph` and `parse_graph` are inverses."""

import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import sympy

from effcomp.errors import ParseError
from effcomp.ir.core import Attr, Graph, Op, Ref, Tag, Value
from effcomp.ir.dims import parse_dim, print_dim
from effcomp.ir.type_text import parse_type, split_top

INDENT = "  "


def print_graph(graph: Graph) -> str:
    """One op a line. `parse_graph` of the text prints the same again."""
    names = name_values(graph)
    return (
        "\n".join([f"graph {_signature(graph, names)} {{", *_lines(graph, names, INDENT), "}"])
        + "\n"
    )


def _signature(graph: Graph, names: Mapping[Value, str]) -> str:
    return f"@{graph.name}({', '.join(_param(v, names) for v in graph.params)})"


def _param(value: Value, names: Mapping[Value, str]) -> str:
    strides = "" if value.strides is None else f" strides {print_attr(value.strides)}"
    return f"%{names[value]}: {'weight ' if value.weight else ''}{value.type}{strides}"


def _lines(graph: Graph, names: Mapping[Value, str], indent: str) -> list[str]:
    lines: list[str] = []
    for op in graph.ops:
        lines.append(indent + print_op(op, names))
        if op.body is not None:
            inner = name_values(op.body)
            lines[-1] += f" {_signature(op.body, inner)} {{"
            lines += [*_lines(op.body, inner, indent + INDENT), indent + "}"]
    returned: list[str] = []
    for i, v in enumerate(graph.outputs):
        layout = graph.layout_of_output(i)
        strides = "" if layout is None else f" strides {print_attr(layout)}"
        returned.append(f"%{names.get(v, '<undefined>')}{strides}")
    return [*lines, f"{indent}return {', '.join(returned)}".rstrip()]


def print_op(op: Op, names: Mapping[Value, str]) -> str:
    """One line: results, name, operands, attributes, types, where it came from (no body)."""
    args = ", ".join(f"%{names.get(v, '<undefined>')}" for v in op.operands)
    attrs = ", ".join(f"{k} = {print_attr(v)}" for k, v in sorted(op.attrs.items()))
    results = ", ".join(f"%{names.get(r, r.hint)}" for r in op.results)
    types = ", ".join(
        str(r.type) + ("" if r.strides is None else f" strides {print_attr(r.strides)}")
        for r in op.results
    )
    where = f" loc {json.dumps(op.loc)}" if op.loc else ""
    where += f" scope {json.dumps(op.scope)}" if op.scope else ""
    head = f"{results} = " if results else ""
    return f"{head}{op.name}({args}){f' {{{attrs}}}' if attrs else ''} : {types or 'none'}{where}"


def print_attr(attr: Attr) -> str:
    match attr:
        case None:
            return "none"
        case bool():
            return str(attr).lower()
        case int():
            return str(attr)
        case float():
            return repr(attr) if math.isfinite(attr) else f"float({attr!s})"
        case complex():
            return f"complex({attr.real!r}, {attr.imag!r})"
        case str():
            return json.dumps(attr)
        case Ref(index=index):
            return f"#{index}"
        case Tag(kind=kind, value=value):
            return f"{kind}<{value}>"
        case sympy.Expr():
            return print_dim(attr)
        case tuple():
            return f"[{', '.join(map(print_attr, attr))}]"


def name_values(graph: Graph) -> dict[Value, str]:
    """A unique name for each value: its hint where it has one, and its position in the program."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    for i, v in enumerate(graph.params):
        name = v.hint if v.hint and v.hint not in taken else f"{v.hint or 'arg'}.{i}"
        names[v] = name
        taken.add(name)
    for i, r in enumerate(r for op in graph.ops for r in op.results):
        name = f"{r.hint}.{i}" if r.hint else str(i)
        # A second param called `add` may be `add.4` already.
        names[r] = f"{r.hint}.r{i}" if name in taken else name
    return names


def clean_hint(text: str) -> str:
    """A hint that the text form can carry: letters, digits and `_`, no leading digit."""
    name = re.sub(r"\W", "_", text)
    return f"_{name}" if name[:1].isdigit() else name


def _hint_of(name: str, position: int, is_param: bool) -> str:
    """The hint that `name_values` made this name from."""
    base, dot, number = name.rpartition(".")
    if is_param:
        if dot and number == str(position):
            return "" if base == "arg" else base
        return name
    return base if dot else ""


_NAME = r"%[\w.<>]+"
_OP = re.compile(
    rf"\s*(?:(?P<results>{_NAME}(?:\s*,\s*{_NAME})*)\s*=\s*)?(?P<name>[A-Za-z_][\w]*\.[\w.]+)\((?P<args>[^()]*)\)\s*"
)
_WHERE = re.compile(r'\s(loc|scope) ("(?:[^"\\]|\\.)*")')
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


class _Lines:
    """The text's lines, with the number of the one being read."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.number = 0

    def next(self) -> str:
        while self.number < len(self.lines):
            self.number += 1
            line = self.lines[self.number - 1]
            if line.strip() and not line.lstrip().startswith("//"):
                return line
        raise ParseError(f"line {self.number}: the text ends inside a graph")

    def fail(self, message: str) -> ParseError:
        return ParseError(f"line {self.number}: {message}: {self.lines[self.number - 1].strip()!r}")


def parse_graph(text: str) -> Graph:
    """Read one graph. Raises ParseError with the line at fault; runs no verifier."""
    lines = _Lines(text)
    head = lines.next().strip()
    if not head.startswith("graph "):
        raise lines.fail("expected 'graph @name(...) {'")
    try:
        graph = _parse_body(lines, head.removeprefix("graph "))
    except (ParseError, ValueError) as error:  # from types, sizes, numbers and strings too
        message = str(error)
        raise (error if message.startswith("line ") else lines.fail(message)) from None
    for number, line in enumerate(lines.lines[lines.number :], lines.number + 1):
        if line.strip() and not line.lstrip().startswith("//"):
            raise ParseError(f"line {number}: text after the graph: {line.strip()!r}")
    return graph


def _parse_body(lines: _Lines, head: str) -> Graph:
    found = re.fullmatch(r"@([^(\s]+)\((.*)\)\s*\{", head.strip(), re.S)
    if found is None:
        raise lines.fail("expected '@name(params) {'")
    env: dict[str, Value] = {}
    params = [_parse_param(lines, p, i, env) for i, p in enumerate(split_top(found[2]))]
    ops: list[Op] = []
    count = 0
    while not (line := lines.next().strip()).startswith("return"):
        ops.append(op := _parse_op(lines, line, env, count))
        count += len(op.results)
    outputs: list[Value] = []
    strides: list[tuple[Attr, ...] | None] = []
    for part in split_top(line.removeprefix("return")):
        name, _, layout = part.strip().partition(" strides ")
        outputs.append(_lookup(lines, env, name.strip()))
        strides.append(_parse_tuple(lines, layout) if layout else None)
    if lines.next().strip() != "}":
        raise lines.fail("expected '}' after return")
    layouts = tuple(strides) if any(s is not None for s in strides) else ()
    return Graph(found[1], tuple(params), tuple(ops), tuple(outputs), layouts)  # pyright: ignore[reportArgumentType]


def _parse_param(lines: _Lines, text: str, position: int, env: dict[str, Value]) -> Value:
    name, colon, rest = text.strip().partition(":")
    if not colon or not name.startswith("%"):
        raise lines.fail(f"expected '%name: type', found {text.strip()!r}")
    rest, _, layout = rest.strip().partition(" strides ")
    weight = rest.startswith("weight ")
    strides = _parse_tuple(lines, layout) if layout else None
    kind = parse_type(rest.removeprefix("weight "))
    env[name] = Value(kind, _hint_of(name[1:], position, True), strides, weight)  # pyright: ignore[reportArgumentType]
    return env[name]


def _lookup(lines: _Lines, env: Mapping[str, Value], name: str) -> Value:
    if name not in env:
        raise lines.fail(f"{name} is not defined above its use")
    return env[name]


def _parse_op(lines: _Lines, line: str, env: dict[str, Value], count: int) -> Op:
    found = _OP.match(line)
    if found is None:
        raise lines.fail("not an op")
    operands = tuple(_lookup(lines, env, a.strip()) for a in found["args"].split(",") if a.strip())
    rest = line[found.end() :]
    attrs: dict[str, Attr] = {}
    if rest.startswith("{"):
        end = _closing(lines, rest)
        attrs = _parse_attrs(lines, rest[1:end])
        rest = rest[end + 1 :]
    rest = rest.strip().removeprefix(":")
    body_at = _body_start(rest)
    tail, rest = (rest[body_at:], rest[:body_at]) if body_at >= 0 else ("", rest)
    where = {k: json.loads(v) for k, v in _WHERE.findall(rest)}
    types = _WHERE.sub("", rest).strip()
    names = [n.strip() for n in (found["results"] or "").split(",") if n.strip()]
    kinds = [] if types == "none" else split_top(types)
    if len(names) != len(kinds):
        raise lines.fail(f"{len(names)} results but {len(kinds)} types")
    body = _parse_body(lines, tail) if tail else None
    results: list[Value] = []
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        shown, _, layout = kind.strip().partition(" strides ")
        strides = _parse_tuple(lines, layout) if layout else None
        results.append(Value(parse_type(shown), _hint_of(name[1:], count + i, False), strides))  # pyright: ignore[reportArgumentType]
        env[name] = results[-1]
    return Op(
        found["name"], operands, tuple(results), MappingProxyType(attrs), body,
        where.get("loc", ""), where.get("scope", ""),
    )  # fmt: skip


def _body_start(text: str) -> int:
    """Where ` @name(` of a nested body begins, outside strings; -1 if there is none."""
    plain = _STRING.sub(lambda found: "_" * len(found[0]), text)
    return plain.find("@")


def _closing(lines: _Lines, text: str) -> int:
    """Index of the brace that closes the one `text` starts with."""
    depth, i = 0, 0
    while i < len(text):
        if text[i] == '"':
            i += 1
            while i < len(text) and text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        depth += text[i : i + 1] == "{"
        depth -= text[i : i + 1] == "}"
        if depth == 0:
            return i
        i += 1
    raise lines.fail("an attribute list is not closed")


def _parse_attrs(lines: _Lines, text: str) -> dict[str, Attr]:
    attrs: dict[str, Attr] = {}
    for part in _split_attrs(text):
        key, equals, value = part.partition("=")
        if not equals:
            raise lines.fail(f"attribute {part.strip()!r} has no value")
        attrs[key.strip()] = parse_attr(lines, value.strip())
    return attrs


def _split_attrs(text: str) -> list[str]:
    """Split at commas outside brackets and outside strings."""
    parts: list[str] = []
    depth, start, i = 0, 0, 0
    while i < len(text):
        c = text[i]
        if c == '"':
            i += 1
            while i < len(text) and text[i] != '"':
                i += 2 if text[i] == "\\" else 1
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]] if text[start:].strip() else parts


_TAG = re.compile(r"(\w+)<([^<>]*)>")


def parse_attr(lines: _Lines, text: str) -> Attr:
    named: dict[str, Attr] = {"none": None, "true": True, "false": False}
    if text in named:
        return named[text]
    if text.startswith('"'):
        return json.loads(text)
    if text.startswith("["):
        return _parse_tuple(lines, text)
    if text.startswith("#"):
        return Ref(int(text[1:]))
    if found := _TAG.fullmatch(text):
        return Tag(found[1], found[2])
    if found := re.fullmatch(r"complex\((.*), (.*)\)", text):
        return complex(float(found[1]), float(found[2]))
    if found := re.fullmatch(r"float\((.*)\)", text):
        return float(found[1])
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return parse_dim(text)


def _parse_tuple(lines: _Lines, text: str) -> tuple[Attr, ...]:
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise lines.fail(f"not a list: {text!r}")
    return tuple(parse_attr(lines, p.strip()) for p in _split_attrs(text[1:-1]))
