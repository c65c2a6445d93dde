"""The command line, `effcomp COMMAND`.

Every command lives in the module of its name and imports what it needs when it runs, so that
`effcomp --help` loads neither torch nor the compiler.
"""

from effcomp.cli.app import app

__all__ = ["app"]
