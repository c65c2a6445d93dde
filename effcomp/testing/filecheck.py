"""`// CHECK:` lines in the manner of LLVM's FileCheck: what a text holds, in which order."""

import re
from collections.abc import Iterator

__all__ = ["check_text"]

_DIRECTIVE = re.compile(r"^\s*(?://|#)\s*CHECK(-NEXT|-NOT|-COUNT-\d+)?:\s*(.*?)\s*$")
_PART = re.compile(r"\{\{(.*?)\}\}")


def has_directives(text: str) -> bool:
    """Whether a text holds CHECK lines."""
    return any(True for _ in _directives(text))


def check_text(text: str, directives: str) -> None:
    """Fail unless `text` holds what the CHECK lines say, in their order.

    `CHECK: a` is on a line below the last match, `CHECK-NEXT: a` on the very next one,
    `CHECK-NOT: a` on none before the next match, `CHECK-COUNT-3: a` on three lines. `{{...}}` is a
    regular expression; runs of blanks are equal.
    """
    __tracebackhide__ = True
    lines = [" ".join(line.split()) for line in text.splitlines()]
    at = -1
    barred: list[str] = []
    for number, kind, wanted in (*_directives(directives), (0, "end", "")):
        pattern = _pattern(wanted)
        if kind == "-NOT":
            barred.append(wanted)
            continue
        times = int(kind.removeprefix("-COUNT-")) if kind.startswith("-COUNT-") else 1
        for _ in range(times):
            found = len(lines) if kind == "end" else _next(lines, at, pattern, kind)
            if found is None:
                shown = "\n".join(lines[at + 1 :]) or "(nothing)"
                place = f"line {number} finds no {wanted!r} below line {at + 1}"
                raise AssertionError(f"CHECK{kind} on {place}:\n{shown}")
            for word in barred:
                for i in range(at + 1, found):
                    if _pattern(word).search(lines[i]):
                        raise AssertionError(f"CHECK-NOT: {word!r} is there: {lines[i]!r}")
            barred, at = [], found


def _directives(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _DIRECTIVE.match(line):
            yield number, found[1] or "", found[2]


def _pattern(wanted: str) -> re.Pattern[str]:
    parts = _PART.split(" ".join(wanted.split()))
    return re.compile("".join(p if i % 2 else re.escape(p) for i, p in enumerate(parts)))


def _next(lines: list[str], at: int, pattern: re.Pattern[str], kind: str) -> int | None:
    below = [at + 1] if kind == "-NEXT" else range(at + 1, len(lines))
    return next((i for i in below if i < len(lines) and pattern.search(lines[i])), None)
