"""What a pass changed, as text: hunks of lines, equal changes of repeated blocks shown once."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from effcomp.report.schema import StageReport

CONTEXT = 2
_NUMBERED = re.compile(r"%([A-Za-z_]\w*?)?(?:\.r?\d+|\d+)\b")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a hunk: kept (" "), removed ("-") or added ("+")."""

    sign: Literal[" ", "-", "+"]
    text: str


@dataclass(frozen=True, slots=True)
class Hunk:
    """Changed lines with some around them, from line `at` of the text before.

    `alike` are the places of hunks that differ from this one in numbers only.
    """

    at: int
    lines: tuple[Line, ...]
    alike: tuple[int, ...] = ()


def diff(before: str, after: str) -> tuple[Hunk, ...]:
    """The hunks that lead from one program to another.

    Values are numbered by position, so that one op less renames all below: lines are compared
    without those numbers.
    """
    old, new = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(
        None, [unnumbered(line) for line in old], [unnumbered(line) for line in new], autojunk=False
    )
    hunks: dict[tuple[object, ...], tuple[Hunk, list[int]]] = {}
    for group in matcher.get_grouped_opcodes(CONTEXT):
        lines = tuple(_lines(group, old, new))
        key = tuple((line.sign, _NUMBER.sub("0", line.text)) for line in lines if line.sign != " ")
        at = group[0][1] + 1
        if key in hunks:
            hunks[key][1].append(at)
        else:
            hunks[key] = Hunk(at, lines), []
    return tuple(Hunk(hunk.at, hunk.lines, tuple(alike)) for hunk, alike in hunks.values())


def stage_diffs(stages: Sequence[StageReport]) -> tuple[tuple[Hunk, ...], ...]:
    """For each stage what it changed; nothing for the first."""
    found: list[tuple[Hunk, ...]] = []
    before = stages[0].text if stages else ""
    for i, stage in enumerate(stages):
        found.append(diff(before, stage.text) if i and stage.text else ())
        before = stage.text or before
    return tuple(found)


def unnumbered(line: str) -> str:
    """The line without the numbers that values have for their position."""
    return _NUMBERED.sub(lambda found: f"%{found.group(1) or ''}", line)


def _lines(
    group: Sequence[tuple[str, int, int, int, int]], old: Sequence[str], new: Sequence[str]
) -> Iterator[Line]:
    for tag, a, b, c, d in group:
        if tag == "equal":
            yield from (Line(" ", text) for text in new[c:d])
            continue
        yield from (Line("-", text) for text in old[a:b])
        yield from (Line("+", text) for text in new[c:d])


def op_texts(program: str) -> tuple[str, ...]:
    """The lines of each op of a printed program, its body included."""
    found: list[list[str]] = []
    for line in program.splitlines()[1:-1]:
        if re.match(r"  \S", line) and line != "  }" and not line.startswith("  return"):
            found.append([])
        if not line.startswith("  return"):
            found[-1].append(line[2:])
    return tuple("\n".join(lines) for lines in found)
