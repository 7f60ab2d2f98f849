"""Every rule is on the page of rules, and every test that the page names exists."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.pages import ROOT, Page, names_in

PAGE = Page("docs/reference/rules.md")
RULES = 19


class TestThePageOfRules:
    def test_has_every_rule(self):
        found = {int(number) for row in rows() if (number := row[0].partition(".")[0]).isdigit()}

        assert found == set(range(1, RULES + 1))

    def test_names_existing_tests(self):
        missing = [name for name in named_tests() if not is_there(name)]

        assert missing == []

    def test_names_the_code_of_each_rule_with_its_file(self):
        gone = [
            f"{name} in {path}"
            for row in rows()
            for name, path in re.findall(r"`([\w.]+)(?:=\w+)?` in `([\w/]+\.py)`", row[1])
            if not re.search(rf"\b{name.rpartition('.')[2]}\b", source(path))
        ]

        assert gone == []

    def test_names_existing_files(self):
        named = {name for row in rows() for name in names_in(row[1])}

        gone = [name for name in named if re.search(r"/.*\.py$", name) and not source(name)]

        assert gone == []

    def test_names_a_test_and_a_counter_test_for_each_row(self):
        incomplete = [row[0] for row in rows() if len(names_in(row[2])) != 1 or not row[3]]

        assert incomplete == []

    def test_marks_tests_that_require_postgresql(self):
        marked = {names_in(row[2])[0] for row in rows() if "(P)" in row[0]}

        unmarked = [test for test in named_tests() if needs_postgresql(test) and test not in marked]

        assert unmarked == []


def rows() -> list[list[str]]:
    sections = ("The rules", "Rules of the shop", "Rules of operation")
    return [row for section in sections for row in PAGE.table(section)]


def named_tests() -> list[str]:
    return [name for row in rows() for name in names_in(row[2])]


def is_there(name: str) -> bool:
    return bool(_found(name))


def needs_postgresql(name: str) -> bool:
    """Return whether the test, its class or its module has the mark `postgresql`."""
    tree = _tree(name.partition("::")[0])
    module = [node for node in tree.body if isinstance(node, ast.Assign)]
    marks = [ast.unparse(node) for node in module if "pytestmark" in ast.unparse(node)]
    for node in _found(name):
        marks += [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(re.search(r"mark\.postgresql\b", mark) for mark in marks)


def _found(name: str) -> list[ast.ClassDef | ast.FunctionDef]:
    """Return the class and the function of a test's id; an empty list if one is missing."""
    path, class_name, function_name = name.partition("[")[0].split("::")
    for outer in _tree(path).body:
        if isinstance(outer, ast.ClassDef) and outer.name == class_name:
            for inner in outer.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == function_name:
                    return [outer, inner]
    return []


@cache
def source(path: str) -> str:
    """Return the content of a file; an empty text if it is missing."""
    file = ROOT / path
    return file.read_text() if file.exists() else ""


@cache
def _tree(path: str) -> ast.Module:
    return ast.parse(source(path))
