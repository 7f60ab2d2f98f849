"""The tests of the outbox use a separate project, and import no module of the shop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def of_the_shop() -> set[str]:
    """Return the shop's packages and the folders of their tests, as dotted names."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages -= {"outbox", "tests", "benchmarks"}
    folders = {path.parent.name for path in ROOT.glob("tests/*/__init__.py")}
    folders -= {"outbox", "servers"}  # brokers, of any project
    return packages | {f"tests.{name}" for name in folders}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def test_the_settings_install_no_app_of_the_shop():
    assert settings.SETTINGS_MODULE == "tests.outbox.project.settings"
    assert not {one.name for one in apps.get_app_configs()} & of_the_shop()


@pytest.mark.parametrize(
    "path", sorted(HERE.rglob("*.py")), ids=lambda path: str(path.relative_to(HERE))
)
def test_a_file_imports_nothing_of_the_shop(path: Path):
    names = of_the_shop()

    found = [one for one in imported(path) if {one, one.rpartition(".")[0]} & names]

    assert found == []
