"""Each picture that a page shows exists, each picture is shown, and each can be taken again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.pictures import IMAGES, LANGUAGES, PICTURES
from tests.docs.pages import Page, pages

pytestmark = pytest.mark.once

MOST_BYTES = 150_000
#: Pictures of an earlier state, which no command takes.
BEFORE = IMAGES / "before"
#: Pages with pictures in English.
ENGLISH = [page for page in pages() if page.pictures() and not page.name.startswith("docs/ja/")]


def files(suffix: str = "") -> set[Path]:
    return {path for path in IMAGES.rglob(f"*{suffix}") if path.is_file()}


class TestThePictures:
    def test_exist_if_a_page_shows_them(self):
        shown = {path for page in pages() for path in page.pictures()}

        assert shown - files() == set()

    def test_are_shown_by_a_page(self):
        shown = {path for page in pages() for path in page.pictures()}

        assert files() - shown == set()

    def test_are_those_that_the_command_takes(self):
        taken = {one.file(language) for one in PICTURES for language in LANGUAGES}

        assert files(".png") - set(BEFORE.iterdir()) == taken

    def test_are_small(self):
        assert {path.name for path in files() if path.stat().st_size > MOST_BYTES} == set()


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
class TestAnEnglishPage:
    def test_shows_no_japanese_picture(self, page: Page):
        assert [path.name for path in page.pictures() if ".ja." in path.name] == []
