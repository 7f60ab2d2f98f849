"""The page of system checks has each message that the outbox can report."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT, Page, names_in

PAGE = Page("docs/reference/checks.md")
PARTS = ("Handlers", "Events", "Settings", "Celery", "Lost hosts")

_ID = re.compile(r'"(outbox\.[EIW]\d{3})"')


def shown() -> list[str]:
    return [names_in(row[0])[0] for part in PARTS for row in PAGE.table(part)]


class TestThePageOfChecks:
    def test_has_each_id_of_the_code_once(self):
        sources = [path.read_text() for path in sorted((ROOT / "outbox").rglob("*.py"))]

        in_code = {name for text in sources for name in _ID.findall(text)}

        assert sorted(shown()) == sorted(in_code)

    def test_has_errors_before_information_and_warnings(self):
        for part in PARTS:
            ids = [names_in(row[0])[0] for row in PAGE.table(part)]
            assert ids == sorted(ids)
