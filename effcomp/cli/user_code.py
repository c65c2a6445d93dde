"""Python that a command line names: `module.path` or `path/file.py`."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

from effcomp.errors import SourceError

__all__ = ["load_module", "load_named_plugins"]


def load_module(where: str) -> ModuleType:
    """Import a module by its path; the current folder counts. Raises SourceError."""
    try:
        with redirect_stdout(sys.stderr):  # stdout is the command's own
            if where.endswith(".py") or "/" in where:
                return _load_file(Path(where))
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(where)
    except SourceError:
        raise
    except ModuleNotFoundError as error:
        raise SourceError(f"cannot import {where}: {error}") from error
    except Exception as error:
        raise SourceError(f"importing {where} raised {type(error).__name__}: {error}") from error


def load_named_plugins(names: Sequence[str] | None) -> None:
    """Import what registers passes and ops, besides the plugins that are installed."""
    for name in names or ():
        load_module(name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # as `python FILE.py` would have it
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module
