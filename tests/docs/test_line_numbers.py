"""Line numbers and quoted code of the pages are those of the files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pytest
from django.core.management import call_command

from tests.docs.pages import ROOT, Page, pages

TUTORIALS = (Page("docs/tutorial.md"), Page("docs/ja/tutorial.md"))
PLACE = re.compile(r"\b([\w/]+/\w+\.py):(\d+)")
#: The names that precede a place: "handler orders.release_for_shipping  orders/handlers.py:38".
NAME = re.compile(r"\b[a-z_]+\.(\w+)\b(?!/)")
#: Lines of a decorator with its options, before the function's name.
DECORATOR = 8


@dataclass(frozen=True)
class Place:
    """A place in a file, as a line of a page names it."""

    page: Page
    line: str
    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.page.name} {self.file}:{self.number}"

    def code(self) -> list[str]:
        """Return the file's lines from this place on; the file may be one that the page shows."""
        shown = self.page.files().get(self.file)
        text = shown if shown is not None else (ROOT / self.file).read_text()
        return text.splitlines()[self.number - 1 :]

    def names(self) -> set[str]:
        """Return the names that the line gives to something at this place."""
        before, _, after = self.line.partition(f"{self.file}:{self.number}")
        return {*NAME.findall(before), *NAME.findall(after)}


def places() -> list[Place]:
    return [
        Place(page, line, file, int(number))
        for page in pages()
        for line in page.text.splitlines()
        for file, number in PLACE.findall(line)
    ]


@pytest.mark.parametrize("place", places(), ids=str)
class TestAPlace:
    def test_has_what_the_page_names(self, place: Place):
        code = place.code()

        assert code, "the file has no such line"
        assert code[0].strip(), "the line is empty"
        beginning = "\n".join(code[:DECORATOR])
        assert {name for name in place.names() if re.search(rf"\b{name}\b", beginning, re.I)}, (
            beginning
        )


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda page: page.name)
class TestTheEventsOfTheTutorial:
    def test_are_printed_like_that(self, tutorial: Page):
        printed = io.StringIO()
        call_command("outbox", "events", "payments", stdout=printed)

        (block,) = (one for one in tutorial.blocks("text") if "PaymentCaptured, version" in one)

        assert block in printed.getvalue()
