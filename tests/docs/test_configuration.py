"""The tables of settings list those that the code reads, with their defaults."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import fields
from typing import Any

from outbox.conf import Conf
from tests.docs.pages import ROOT, Page, names_in

SHOP = Page("docs/reference/shop-settings.md")
SINKS = Page("docs/how-to/publish-to-another-system.md")
SETTINGS = Page("docs/reference/settings.md")
PARTS = ("Engine", "Retention", "Other systems", "Monitoring")
UNKNOWN = object()


class TestTheTableOfVariables:
    def test_has_each_variable_that_the_settings_read(self):
        table = SHOP.table("Variables")

        assert {names_in(row[0])[0] for row in table} == set(variables())

    def test_has_their_defaults(self):
        read = variables()

        differing = {
            name: (shown, read[name])
            for name, shown in defaults(SHOP.table("Variables")).items()
            if read[name] is not UNKNOWN and shown != in_words(read[name])
        }

        assert differing == {}

    def test_explains_each(self):
        assert all(row[2] for row in SHOP.table("Variables"))


class TestTheTableOfOutbox:
    """The page of the reference has the keys of `OUTBOX` in several tables."""

    def test_has_each_key_with_its_type(self):
        shown = {names_in(row[0])[0]: names_in(row[1])[0] for row in rows_of_outbox()}

        assert {name: kind.replace("\\|", "|") for name, kind in shown.items()} == {
            field.name: in_the_settings(field.type) for field in fields(Conf)
        }

    def test_has_each_key_with_its_default(self):
        shown = {names_in(row[0])[0]: names_in(row[3])[0] for row in rows_of_outbox()}

        assert shown == {name: in_python(value) for name, value in vars(Conf()).items()}

    def test_has_the_unit_of_each_number(self):
        units = {names_in(row[0])[0]: row[2] for row in rows_of_outbox()}

        numbers = {field.name for field in fields(Conf) if field.type in ("int", "float")}
        assert {name for name, unit in units.items() if unit} == numbers | {"RETENTION"}
        assert {units[name] for name in numbers if name.endswith("_SECONDS")} == {"seconds"}

    def test_explains_each_key(self):
        assert all(row[4] for row in rows_of_outbox())


class TestTheExampleOfASink:
    def test_is_the_same_in_python_and_in_the_environment(self):
        code = next(one for one in SINKS.blocks("python") if one.startswith("OUTBOX = "))
        (shell,) = (one for one in SINKS.blocks("console") if "export OUTBOX=" in one)

        exported = shlex.split(shell.splitlines()[0].removeprefix("$ "))[1]

        given = ast.literal_eval(code.removeprefix("OUTBOX = "))
        assert json.loads(exported.removeprefix("OUTBOX=")) == given


def rows_of_outbox() -> list[list[str]]:
    return [row for part in PARTS for row in SETTINGS.table(part)]


def in_the_settings(annotation: object) -> str:
    """Return a type as users write its values: dictionaries and lists."""
    return str(annotation).replace("Mapping", "dict").replace("Sequence", "list")


def variables() -> dict[str, Any]:
    """The variables that shop/settings/ reads, each with its default where that is a constant."""
    found: dict[str, Any] = {}
    parts = [ast.parse(path.read_text()) for path in sorted((ROOT / "shop/settings").glob("*.py"))]
    for node in (node for part in parts for node in ast.walk(part)):
        if isinstance(node, ast.Call) and is_reader(node.func) and node.args:
            name = ast.literal_eval(node.args[0])
            default = next((word.value for word in node.keywords if word.arg == "default"), None)
            if found.get(name, UNKNOWN) is UNKNOWN:
                found[name] = UNKNOWN if default is None else constant(default)
    return found


def is_reader(function: ast.expr) -> bool:
    """Whether this is `env.str`, `env.bool`, ... or `os.environ.get`."""
    text = ast.unparse(function)
    return text.startswith("env.") or text == "os.environ.get"


def constant(node: ast.expr) -> Any:
    try:
        return eval(compile(ast.Expression(node), "settings", "eval"), {"__builtins__": {}})
    except NameError:  # it depends on where we run
        return UNKNOWN


def defaults(table: list[list[str]]) -> dict[str, str]:
    """Return the defaults that the table shows as code; "none" for a default in words."""
    return {
        names_in(row[0])[0]: names_in(row[1])[0] if row[1].startswith("`") else row[1]
        for row in table
        if not row[1].startswith(("a ", "SQLite", "files"))
    }


def in_words(value: Any) -> str:
    """Return a default as it is written in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def in_python(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
