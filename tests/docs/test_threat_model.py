"""The threat model names existing tests, and other pages link to it."""

from __future__ import annotations

import re

from tests.docs.pages import Page, names_in
from tests.docs.test_rules_page import is_there

PAGE = Page("docs/threat-model.md")
ROWS = PAGE.table("Attackers, assets, guards")


class TestTheThreatModel:
    def test_names_attackers_goals_and_guards(self):
        assert [row for row in ROWS if len(row) != 4 or not all(row)] == []

    def test_names_one_test_for_each_guard(self):
        assert [row[2] for row in ROWS if len(names_in(row[3])) != 1] == []

    def test_names_existing_tests(self):
        named = [name for row in ROWS for name in names_in(row[3])]

        assert [name for name in named if not is_there(name)] == []

    def test_names_each_guard_once(self):
        pairs = [(row[1], row[2]) for row in ROWS]

        assert len(set(pairs)) == len(pairs)


class TestTheSecurityPolicy:
    def test_names_the_contact_the_supported_versions_and_the_scope(self):
        headings = re.findall(r"^## (.+)$", Page("SECURITY.md").text, re.MULTILINE)

        assert headings == [
            "Report a vulnerability",
            "What you can expect",
            "Supported versions",
            "Scope",
        ]

    def test_is_linked_from_the_readme(self):
        assert "SECURITY.md" in Page("README.md").links()
