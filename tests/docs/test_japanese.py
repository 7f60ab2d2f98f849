"""The Japanese pages follow the present English pages, and use the words of their glossary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.japanese import INDEX, read, revision_of, translations
from tests.docs.pages import ROOT, Page
from tests.translations.catalogues import App, forms_of, strings_of, texts_of

pytestmark = pytest.mark.once

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
_ROW = re.compile(r"^\| ([a-z -]+) \| ([^|]+) \|", re.MULTILINE)
OUTBOX = App(folder=ROOT / "outbox")
#: Code, placeholders and options, which are no words.
_CODE = re.compile(r"`[^`]*`|<code>.*?</code>|%\(\w+\)[a-z]|--[a-z-]+ [A-Z]+")
#: Words that have one meaning in each text for users.
TERMS = ["event", "handler", "subscription", "timeline", "worker", "dead letter", "lease"]
TERMS += ["breaker", "backfill", "window", "heartbeat", "canary", "token", "backoff"]


def code_of(page: Page) -> list[str]:
    """Return the lines of a page's code blocks, without comments."""
    code = [page.blocks(kind) for kind in ("console", "python", "text")]
    lines = "".join(block for blocks in code for block in blocks).splitlines()
    return [line.partition("#")[0].rstrip() for line in lines]


def twin_of(picture: Path) -> Path:
    """Return the Japanese twin of a picture, or the picture itself if it has none."""
    twin = picture.with_suffix(f".ja{picture.suffix}")
    return twin if twin.exists() else picture


def terms() -> dict[str, str]:
    text = (ROOT / "docs/ja/glossary.md").read_text()
    return dict(_ROW.findall(text.partition("| --- |")[2]))


@pytest.mark.parametrize("page", translations(), ids=lambda one: one.path.name)
class TestAJapanesePage:
    def test_follows_the_present_english_page(self, page):
        assert not page.is_outdated, "`make docs-ja` shows the next step."

    def test_has_the_headings_and_tables_of_the_english_page(self, page):
        japanese = page.path.read_text()
        levels = re.compile(r"^#+ ", re.MULTILINE)

        assert levels.findall(japanese) == levels.findall(page.english.text)
        assert JAPANESE.search(japanese)

    def test_has_the_code_of_the_english_page(self, page):
        """All but comments and prose of a terminal, which are translated."""
        japanese = Page(page.path.relative_to(ROOT).as_posix())

        assert code_of(japanese) == code_of(page.english)

    def test_has_the_japanese_twins_of_the_pictures_of_the_english_page(self, page):
        japanese = Page(page.path.relative_to(ROOT).as_posix())

        assert japanese.pictures() == [twin_of(path) for path in page.english.pictures()]

    def test_is_in_the_index(self, page):
        assert page.path == INDEX or f"({page.path.name})" in INDEX.read_text()


class TestTheGlossary:
    def test_has_the_words_of_the_english_one(self):
        english = Page("docs/reference/glossary.md").text
        words = set(re.findall(r"^\| ([a-z -]+) \|", english, re.MULTILINE))
        without_japanese = {"---", "word", "delivery states", "intake", "inline", "local"}

        assert words - set(terms()) == without_japanese

    @pytest.mark.parametrize("word", TERMS)
    def test_is_followed_by_each_translation(self, word: str):
        japanese, pattern = (
            terms()[word],
            re.compile(rf"(?<![\w.-]){word}s?(?![\w.=-])", re.IGNORECASE),
        )
        others = [
            one.id
            for one in texts_of(OUTBOX.read())
            if pattern.search(_CODE.sub("", forms_of(one)[0]))
            and not all(japanese in text for text in strings_of(one))
        ]

        assert others == []


class TestTheRevision:
    def test_changes_with_the_english_text(self, tmp_path):
        english = tmp_path / "one.md"
        english.write_text("One.")
        before = revision_of(Page(str(english)))
        english.write_text("Two.")

        assert revision_of(Page(str(english))) != before

    def test_is_named_by_the_first_line(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("# Title")

        with pytest.raises(ValueError, match="does not begin with"):
            read(page)

    def test_is_replaced_when_a_page_is_accepted(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text("<!-- follows docs/tour.md at 000000000000 -->\n# Title\n")
        assert read(page).is_outdated

        read(page).accept()

        assert not read(page).is_outdated
        assert page.read_text().endswith("\n# Title\n")
