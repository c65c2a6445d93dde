"""`effcomp ops`: the vocabulary of the IR."""

from typing import Annotated

import typer

from effcomp.cli.command import Json
from effcomp.cli.options import Plugins

__all__ = ["ops"]


def ops(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="OP", help="Show these ops, or whole namespaces, in full."),
    ] = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """List the ops of the IR, or describe some: operands, attributes, traits, meaning."""
    from effcomp.cli.console import out, print_json, table
    from effcomp.cli.user_code import load_named_plugins
    from effcomp.errors import ConfigError, nearest
    from effcomp.ir import SPECS
    from effcomp.ir.spec_text import signature_text, trait_names
    from effcomp.plugins import load_plugins

    load_named_plugins(plugin)
    load_plugins()
    namespaces = {name.partition(".")[0] for name in SPECS}
    for name in names or ():
        if name not in SPECS and name not in namespaces:
            raise ConfigError(f"no op {name!r}; {nearest(name, [*SPECS, *namespaces])}")
    chosen = [
        spec
        for name, spec in sorted(SPECS.items())
        if not names or name in names or name.partition(".")[0] in names
    ]
    if json:
        print_json(
            [
                {
                    "name": spec.name,
                    "signature": signature_text(spec),
                    "traits": trait_names(spec),
                    "doc": spec.doc.strip(),
                }
                for spec in chosen
            ]
        )
    elif names:
        for spec in chosen:
            out().print(signature_text(spec), style="bold")
            out().print(f"  traits: {', '.join(trait_names(spec)) or 'keeps program order'}")
            out().print("".join(f"  {line}\n" for line in spec.doc.strip().splitlines()))
    else:
        rows = [(spec.name, spec.doc.strip().partition("\n")[0]) for spec in chosen]
        out().print(table(("op", "meaning"), rows))
