"""Writes the pages of docs/reference (api, ops, options, passes) from the declarations in effcomp.

    python docs/generate_reference.py [--check]

With `--check` nothing is written; the exit code is 1 when a page is not what would be written.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_reference import api_page

from effcomp.config import MODES, Config
from effcomp.ir import SPECS
from effcomp.ir.spec_text import TRAIT_MEANINGS, signature_text, trait_names
from effcomp.passes import PASSES
from effcomp.rewrite import Pass
from effcomp.target import Target

FOLDER = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by docs/generate_reference.py: change the docstrings, not this page. -->"


def ops_page() -> str:
    lines = ["# Ops", "", NOTICE, ""]
    lines += ["Operands stand before `*`, attributes after it; optional operands in brackets.", ""]
    lines += ["| Trait | Meaning |", "| --- | --- |"]
    lines += [f"| {str(trait.name).lower()} | {text} |" for trait, text in TRAIT_MEANINGS.items()]
    seen = ""
    for name, spec in sorted(SPECS.items()):
        namespace = name.partition(".")[0]
        if namespace != seen:
            lines += ["", f"## {namespace}"]
            seen = namespace
        found = ", ".join(trait_names(spec))
        lines += ["", f"### `{signature_text(spec)}`", "", "```text", spec.doc.strip(), "```"]
        lines += ["", f"Traits: {found}."] if found else ["", "Keeps program order."]
    return "\n".join(lines) + "\n"


def _options(one: type[Pass]) -> Iterator[str]:
    fields: tuple[Any, ...] = dataclasses.fields(one)  # pyright: ignore[reportArgumentType]
    for field in fields:
        default = field.default
        given = f"`{default.name if isinstance(default, Target) else repr(default)}`"
        required = default is dataclasses.MISSING
        yield f"| `{field.name}` | {'required' if required else given} |"


def passes_page() -> str:
    lines = ["# Passes", "", NOTICE, ""]
    lines += ["A pass is written in a pipeline by its name, with options in braces:"]
    lines += ["`canonicalize,cse`. `docs/how-to/write-a-pass.md` says how one is made.", ""]
    for name, one in sorted(PASSES.items()):
        levels = [level.value if level else "any" for level in (one.takes, one.gives)]
        lines += [f"## {name}", "", inspect.getdoc(one) or "", ""]
        lines += [f"Level: {levels[0]} to {levels[1]}.", ""]
        if options := list(_options(one)):
            lines += ["| Option | Default |", "| --- | --- |", *options, ""]
    return "\n".join(lines).rstrip() + "\n"


def options_page() -> str:
    lines = ["# Options", "", NOTICE, ""]
    lines += [
        '`torch.compile(model, backend="effcomp", options={...})` takes these. An option that'
    ]
    lines += ["effcomp does not know, or a value that it cannot use, is an error.", ""]
    lines += ["| Option | Values | Default | |", "| --- | --- | --- | --- |"]
    for name, field in Config.model_fields.items():
        values = inspect.formatannotation(field.annotation).replace("|", "or")
        values = values.removeprefix("Literal").strip("[]") if "Literal" in values else values
        lines.append(f"| `{name}` | {values} | `{field.default!r}` | {field.description} |")
    lines += ["", "`mode=` stands for options:", "", "| Mode | Options |", "| --- | --- |"]
    lines += [
        f"| `{mode}` | {f'`{dict(given)}`' if given else ''} |" for mode, given in MODES.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    pages = {
        "api.md": api_page(NOTICE),
        "ops.md": ops_page(),
        "options.md": options_page(),
        "passes.md": passes_page(),
    }
    for name, text in pages.items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if not check:
            path.write_text(text)
        print(f"{path.name} {'is out of date' if check else 'written'}")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
