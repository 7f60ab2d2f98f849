"""Each text for users is marked for translation, or is here with the reason why it is not."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.translations.catalogues import ROOT, App, apps
from tests.translations.extraction import files_of
from tests.translations.unmarked import modules, texts_of_module, texts_of_template

pytestmark = pytest.mark.once

#: By reason: files, as patterns, and texts in them.
ACCEPTED = {
    "the schema of the HTTP API is in English, as its reference": [
        (r"/(serializers|views|action_views)\.py$", r""),
    ],
    "the fields of an event are documented in English, as its docstring": [(r"/events\.py$", r"")],
    "a rule and its remedy are stored in reports, and logged": [
        (r"/invariants\.py$", r""),
        (r"^shop/reconciliation\.py$", r"^The reconciliation found differences: %d"),
    ],
    "a permission's name is stored by Django, which does not translate it": [
        (r"/models(/|\.py$)", r"^Can "),
        (r"^outbox/admin/", r"^see "),
    ],
    "a wrong step of a state machine is a bug, and is logged": [
        (r"/models\.py$", r"cannot change from|was never to be paid"),
    ],
    "a note is stored in rows, and must not depend on who caused it": [
        (r"^outbox/operations/", r"^(backfilled|retried|corrected) by|^no reason given$"),
        (r"^outbox/operations/handlers\.py$", r"^closed the breaker of$"),
    ],
    "Django reads the help of a command before it knows the language": [
        (r"/management/commands/", r"^(Create|Inspects|Remove|Check|Place|Start)\b"),
    ],
    "only developers run it, in a clone": [(r"^shop/management/commands/(up|demo)\.py$", r"")],
    "the name of a part for programs; `Finding.label` translates it": [
        (r"^outbox/doctor/", r"^(owed deliveries|external systems of sources)$"),
    ],
    "it is the value of a setting, or a statement of Mermaid": [
        (r"^outbox/doctor/database\.py$", r"^read committed$"),
        (r"^outbox/drawing/sequence\.py$", r"^    Note over"),
    ],
    "a file that a command writes is code": [
        (r"^outbox/management/cli/(init|startapp)\.py$", r"import |manage\.py"),
    ],
    "Swagger UI writes its words in English, so the page is in English": [
        (r"^shop/templates/shop/api_docs\.html$", r""),
    ],
    "it is the class of an element, completed by a tag": [(r"/page\.html$", r"^(app|model)-$")],
}
PATTERNS = [pattern for patterns in ACCEPTED.values() for pattern in patterns]


def is_accepted(file: str, text: str) -> bool:
    return any(re.search(path, file) and re.search(words, text) for path, words in PATTERNS)


@cache
def unmarked(app: App) -> list[tuple[str, str]]:
    files = files_of(app.folder)
    texts = {
        path: list(texts_of_module(path.read_text()))
        for path in modules(app.folder)
        if path in files
    }
    for path in files:
        if path.suffix != ".py":
            texts[path] = texts_of_template(path.read_text())
    names = {path: path.relative_to(ROOT).as_posix() for path in texts}
    return [(names[path], text) for path, found in texts.items() for text in found]


@pytest.mark.parametrize("app", apps(), ids=lambda app: app.name)
class TestAnApp:
    def test_marks_each_text_for_users(self, app: App):
        assert [one for one in unmarked(app) if not is_accepted(*one)] == []


class TestTheAcceptedTexts:
    @pytest.mark.parametrize("pattern", PATTERNS, ids=str)
    def test_exist(self, pattern):
        path, words = pattern
        found = [one for app in apps() for one in unmarked(app)]

        assert any(re.search(path, file) and re.search(words, text) for file, text in found)


class TestTheSearch:
    def test_finds_sentences_in_calls_and_returns(self):
        source = (
            'def f(x):\n    """Return a text that is long."""\n    write(f"{x} was sent")\n'
            '    logger.info("was sent now")\n    raise ValueError("is no number")\n'
            '    warning(part, "is too slow", "Do it again.")\n    return _("is marked now")'
        )

        assert list(texts_of_module(source)) == ["{} was sent", "is too slow", "Do it again."]

    def test_finds_words_and_attributes_of_templates(self):
        source = (
            '{% load i18n %}{# a note #}<p title="Two">One {{ name }}<code>three</code></p>'
            '{% translate "four" %}{% blocktranslate %}five{% endblocktranslate %}'
        )

        assert texts_of_template(source) == ["Two", "One"]
