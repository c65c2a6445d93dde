"""Public names: sorted, real, lazy, and quick to import."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "effcomp"
TEMPLATES = PACKAGE / "codegen" / "triton" / "templates"
TORCH_FREE = (
    "codegen",
    "config",
    "errors",
    "ir",
    "passes",
    "plan",
    "plugins",
    "report",
    "rewrite",
    "target",
)

# Put before the import under test: torch and triton are then as good as not installed.
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "triton"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def _python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _declared_names(path: Path) -> list[str] | None:
    """`__all__` as it is written, or None where a module declares none."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
                return list(ast.literal_eval(value))
            case _:
                continue
    return None


def _order(name: str) -> tuple[int, str]:
    """The order that ruff gives `__all__`: CONSTANTS, then Classes, then the rest."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if TEMPLATES not in p.parents]
DECLARING = [p for p in SOURCES if _declared_names(p) is not None]


def test_import_is_quick_and_loads_no_torch() -> None:
    seen = _python(
        "import sys, time; start = time.perf_counter(); import effcomp; "
        "took = time.perf_counter() - start; "
        "print(took, *sorted({'torch', 'triton', 'numpy', 'sympy'} & set(sys.modules)))"
    ).split()
    assert seen[1:] == [], f"import effcomp also loads {seen[1:]}"
    assert float(seen[0]) < 0.2


@pytest.mark.parametrize("name", TORCH_FREE)
def test_the_core_imports_where_torch_is_absent(name: str) -> None:
    _python(f"{BLOCK}\nimport effcomp.{name}")


def test_every_public_name_resolves() -> None:
    effcomp = importlib.import_module("effcomp")
    for name in effcomp.__all__:
        assert getattr(effcomp, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = effcomp.no_such_name


@pytest.mark.parametrize("path", DECLARING, ids=_module_name)
def test_declared_names_are_sorted_and_exist(path: Path) -> None:
    declared = _declared_names(path)
    assert declared is not None
    assert declared == sorted(set(declared), key=_order), f"{path}: __all__ is not sorted"
    module = importlib.import_module(_module_name(path))
    missing = [name for name in declared if not hasattr(module, name)]
    assert not missing, f"{path}: __all__ names what is not there: {missing}"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=_module_name)
def test_packages_that_reexport_declare_it(path: Path) -> None:
    """A package's `__init__` that imports public names from inside lists exactly those."""
    tree = ast.parse(path.read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("effcomp")
        for alias in node.names
    }
    public = {name for name in imported if not name.startswith("_")}
    declared = _declared_names(path)
    if not public and declared is None:
        return
    assert declared is not None, f"{path} re-exports {sorted(public)} without __all__"
    assert public <= set(declared), f"{path}: not in __all__: {sorted(public - set(declared))}"
