"""Plugins by entry point: loaded once and lazily, left out when broken; names that clash."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from effcomp.errors import ConfigError, PluginError, PluginWarning
from effcomp.passes import known_passes
from effcomp.plugins import GROUP, REGISTRY, discovery, isolated, load_plugins
from effcomp.plugins.digest import registered_text

PASS = """
import dataclasses, effcomp as ec
from typing import ClassVar

@dataclasses.dataclass(frozen=True)
class {kind}:
    '''Does nothing.'''
    name: ClassVar[str] = "{name}"
    takes: ClassVar[ec.Level | None] = None
    gives: ClassVar[ec.Level | None] = None
    def run(self, graph, log):
        return graph
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs distributions of one module, each with an entry point for it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)

    def one(distribution: str, source: str, value: str = "", version: str = "1.0") -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\n")
        point = f"[{GROUP}]\n{module} = {value or module}\n"
        (info / "entry_points.txt").write_text(point)
        discovery.forget_plugins()

    with isolated():
        discovery.forget_plugins()
        yield one
    for name in set(sys.modules) - modules:
        if hasattr(sys.modules[name], "__file__") and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
    discovery.forget_plugins()


def test_a_module_or_a_function_registers(install: Install) -> None:
    install("effcomp-one", PASS.format(kind="One", name="one") + "ec.register(One)\n")
    source = (
        PASS.format(kind="Two", name="two") + "def add():\n    ec.register(Two, before='dce')\n"
    )
    install("effcomp-two", source, "effcomp_two:add", "2.5")
    assert {"one", "two", "dce"} <= known_passes().keys()
    assert str(REGISTRY.passes["one"].origin) == "effcomp-one 1.0"
    assert str(REGISTRY.passes["two"].origin) == "effcomp-two 2.5"
    version = REGISTRY.version
    load_plugins()
    assert REGISTRY.version == version, "loaded once"


def test_a_broken_plugin_is_named_and_left_out(install: Install) -> None:
    good = PASS.format(kind="One", name="one") + "ec.register(One)\n"
    install("effcomp-one", good)
    install("effcomp-bad", good.replace('"one"', '"bad"') + "1 / 0\n")
    install("effcomp-gone", good, "effcomp_missing")
    install("effcomp-odd", good.replace('"one"', '"odd"') + "value = 3\n", "effcomp_odd:value")
    with pytest.warns(PluginWarning) as warned:
        known = known_passes()
    shown = sorted(str(w.message) for w in warned)
    assert [text.partition(" is left out")[0] for text in shown] == [
        "plugin 'effcomp_bad' of effcomp-bad 1.0",
        "plugin 'effcomp_gone' of effcomp-gone 1.0",
        "plugin 'effcomp_odd' of effcomp-odd 1.0",
    ]
    assert "ZeroDivisionError: division by zero" in shown[0]
    assert "one" in known
    assert not {"bad", "odd"} & known.keys(), "nothing of a broken plugin stays"


def test_two_plugins_with_one_name_are_an_error_that_names_both(install: Install) -> None:
    source = PASS.format(kind="One", name="one") + "ec.register(One)\n"
    install("effcomp-one", source)
    install("effcomp-two", source, version="2.5")
    for _ in range(2):
        with pytest.raises(PluginError, match=r"pass 'one' is registered by .* and by") as raised:
            known_passes()
        assert "effcomp-one 1.0" in str(raised.value)
        assert "effcomp-two 2.5" in str(raised.value)


def test_a_pass_named_as_one_of_the_compiler_s(install: Install) -> None:
    install("effcomp-one", PASS.format(kind="One", name="cse") + "ec.register(One)\n")
    with pytest.raises(PluginError, match=r"pass 'cse' is effcomp's own, .* by effcomp-one 1.0"):
        known_passes()


def test_what_is_installed_is_in_the_key(install: Install, tmp_path: Path) -> None:
    load_plugins()
    assert registered_text() == ""
    source = PASS.format(kind="One", name="one") + "ec.register(One)\n"
    install("effcomp-one", source)
    load_plugins()
    first = registered_text()
    assert first.startswith("pass one effcomp-one 1.0 ")
    with isolated():
        (tmp_path / "effcomp_one.py").write_text(source + "# another line\n")
        REGISTRY.version += 1
        assert registered_text() != first


def test_a_textual_pipeline_knows_their_passes(install: Install) -> None:
    from effcomp import parse_pipeline

    install("effcomp-one", PASS.format(kind="One", name="one") + "ec.register(One)\n")
    assert parse_pipeline("cse,one").text == "cse,one"
    with pytest.raises(ConfigError, match="unknown pass 'on'; did you mean 'one'"):
        parse_pipeline("on")
