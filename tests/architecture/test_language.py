"""Docstrings, comments, pages and texts for users are written in plain technical English."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
FOLDERS = (
    "api",
    "benchmarks",
    "inventory",
    "notifications",
    "orders",
    "outbox",
    "payments",
    "shared",
    "shop",
    "storefront",
    "webhooks",
)
PAGES = ("README.md", "docs/*.md", "docs/how-to/*.md", "docs/migrate/*.md", "docs/reference/*.md")
#: Pages about figures and tests, and not about use.
OTHER_PAGES = {"performance.md", "reliability.md", "chaos.md"}

#: Metaphors for emit, log, subscribe, health and again.
FORBIDDEN = re.compile(
    r"\b(tells?|told|tellers?|hears?|heard|hearers?|anew|in good hands|who lives|"
    r"what becomes of|comes to no good)\b",
    re.IGNORECASE,
)
#: In 1,000 words. Procrastinate and DBOS have 0.4 of these clauses in their docstrings.
MOST_WHAT_CLAUSES = 1.0
MOST_FORBIDDEN = 0.2
MOST_WORDS_IN_A_SENTENCE = 13.0

DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def texts_of(path: Path) -> Iterator[str]:
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("#: ")


@cache
def docstrings_and_comments() -> str:
    files = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    texts = (text for path in files if "migrations" not in path.parts for text in texts_of(path))
    return "\n\n".join(texts)


def of_tests() -> str:
    """Return docstrings and comments of the tests, without the words of this file."""
    files = (path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__))
    return "\n\n".join(text for path in files for text in texts_of(path))


@cache
def pages() -> str:
    """Return the prose of the pages, without code and tables; each point of a list by itself."""
    files = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    whole = "\n\n".join(path.read_text() for path in files if path.name not in OTHER_PAGES)
    prose = re.sub(r"```.*?```|`[^`]*`", " ", whole, flags=re.DOTALL)
    prose = re.sub(r"^\|.*$", "", prose, flags=re.MULTILINE)
    return re.sub(r"^\s*(?:[*-]|\d+\.|#+) ", "\n", prose, flags=re.MULTILINE)


def texts_for_users() -> str:
    """Return the strings of the code that are sentences, and the texts of the templates."""
    folders = [ROOT / folder for folder in FOLDERS]
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    strings = [text for path in sources for text in strings_of(ast.parse(path.read_text()))]
    templates = [path for folder in folders for path in sorted(folder.rglob("templates/**/*.*"))]
    pages = [re.sub(r"<[^>]*>|{[%{#].*?[%}#]}", " ", path.read_text()) for path in templates]
    blocks = re.compile(r"{% (?:block)?translate \"([^\"]+)\"")
    labels = [text for path in templates for text in blocks.findall(path.read_text())]
    return "\n\n".join([*strings, *pages, *labels])


def strings_of(tree: ast.Module) -> Iterator[str]:
    docs = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, DOCUMENTED) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in docs or not isinstance(node.value, str):
            continue
        if " " in node.value.strip() and "SELECT" not in node.value:
            yield node.value


def in_1000_words(pattern: re.Pattern[str], text: str) -> float:
    return 1000 * len(pattern.findall(text)) / len(re.findall(r"[A-Za-z']+", text))


def words_in_a_sentence(text: str) -> float:
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    lengths = [len(sentence.split()) for sentence in sentences]
    return float(statistics.mean(length for length in lengths if length > 3))


@pytest.mark.parametrize("texts", [docstrings_and_comments, pages], ids=["code", "pages"])
class TestTheLanguage:
    def test_has_few_clauses_with_what(self, texts):
        what = re.compile(r"\bwhat\b", re.IGNORECASE)

        assert in_1000_words(what, texts()) <= MOST_WHAT_CLAUSES

    def test_has_no_metaphor_for_a_standard_term(self, texts):
        assert in_1000_words(FORBIDDEN, texts()) <= MOST_FORBIDDEN

    def test_has_short_sentences(self, texts):
        assert words_in_a_sentence(texts()) <= MOST_WORDS_IN_A_SENTENCE


class TestTheTests:
    def test_have_no_metaphor_for_a_standard_term(self):
        assert in_1000_words(FORBIDDEN, of_tests()) <= MOST_FORBIDDEN


class TestATextForUsers:
    def test_has_no_metaphor_for_a_standard_term(self):
        assert FORBIDDEN.findall(texts_for_users()) == []

    def test_has_few_clauses_with_what(self):
        what = re.compile(r"\bwhat\b", re.IGNORECASE)

        assert in_1000_words(what, texts_for_users()) <= MOST_WHAT_CLAUSES


class TestTheMeasure:
    """The measure finds long sentences."""

    RIDDLE = "What becomes of a delivery of which nobody was told, anew, says whoever hears it."

    def test_finds_metaphors(self):
        assert len(FORBIDDEN.findall(self.RIDDLE)) == 4

    def test_counts_the_words_of_sentences(self):
        assert words_in_a_sentence("One two three four. One two three four five six.\n\nTwo.") == 5

    def test_reads_errors_and_templates(self):
        texts = texts_for_users()

        assert "Remove inline=True" in texts
        assert "Tasks that beat starts on a schedule." in texts
