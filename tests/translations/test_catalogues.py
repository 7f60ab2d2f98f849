"""The stored catalogues are complete, current, and agree with the code and with each other."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest
from babel.messages.catalog import Catalog, Message

from tests.translations.catalogues import (
    App,
    apps,
    compiled,
    forms_of,
    key_of,
    strings_of,
    text_of,
    texts_of,
)
from tests.translations.extraction import messages_of

pytestmark = pytest.mark.once

Text = str | tuple[str, ...]
APPS = apps()
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{\w*\}")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
#: Names and formats, which are the same in both languages.
SAME_IN_JAPANESE = {
    "%d ms",
    "API",
    "HTML",
    "HTTP %(status)d",
    "Message-ID",
    "SHA-256",
    "SKU",
    "URL",
    "Webhooks",
    "beat",
    "crontab",
    "crontabs",
}
NEXT_STEP = "Run `make messages`, and translate what it lists."


def placeholders(text: str) -> list[str]:
    return sorted(PLACEHOLDER.findall(text))


def agrees(message: Message) -> bool:
    """Compare the placeholders; Japanese has one form, which is that of many."""
    wanted = forms_of(message)[-1]
    return all(placeholders(one) == placeholders(wanted) for one in strings_of(message))


@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name)
class TestACatalogue:
    def test_has_the_messages_of_the_code_and_no_other(self, app: App):
        assert app.po.exists(), NEXT_STEP
        assert app.po.read_text() == text_of(app.updated({})), NEXT_STEP

    def test_has_a_translation_of_each_message(self, app: App):
        texts = texts_of(app.read())

        assert [one.id for one in texts if not all(strings_of(one))] == [], NEXT_STEP
        assert [one.id for one in texts if one.fuzzy] == [], "Check it, and remove `#, fuzzy`."

    def test_has_the_placeholders_of_each_message(self, app: App):
        assert [one.id for one in texts_of(app.read()) if not agrees(one)] == []

    def test_is_japanese(self, app: App):
        texts = [
            (one.id, text)
            for one in texts_of(app.read())
            for text in strings_of(one)
            if JAPANESE.search(PLACEHOLDER.sub("", text)) is None
            and re.search("[A-Za-z]", PLACEHOLDER.sub("", text))
        ]

        assert [one for one, _text in texts if one not in SAME_IN_JAPANESE] == []

    def test_is_compiled(self, app: App):
        assert app.mo.read_bytes() == compiled(app.read()), "Run `make messages`."

    def test_has_no_message_that_ends_at_an_escaped_quote(self, app: App):
        """`templatize` reads a tag up to the first quote, and Django up to the last."""
        assert [one.id for one in texts_of(app.read()) if key_of(one)[1].endswith("\\")] == []


class TestTheCatalogues:
    def test_are_those_of_the_apps_and_of_the_folder_that_they_share(self):
        found = {app.name: {one.file for one in app.messages()} for app in APPS}

        assert {"outbox", "orders", "shop", "shop/second_factor"} <= set(found)
        assert any(file.startswith("shared/") for file in found["shop"])
        assert not any(file.startswith("second_factor/") for file in found["shop"])

    def test_translate_a_message_in_one_way(self):
        """Django merges all catalogues, so the first app would decide for the others."""
        ways = defaultdict(set)
        for app in APPS:
            for message in texts_of(app.read()):
                ways[key_of(message)].add(strings_of(message))

        assert {key: found for key, found in ways.items() if len(found) > 1} == {}


class TestTheExtraction:
    def found(self, path, source: str) -> list[object]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return [one.text for one in messages_of(path, path.name)]

    def test_finds_texts_plurals_and_contexts_of_python(self, tmp_path):
        source = '_("a")\nngettext("b", "c", 2)\npgettext_lazy("of e-mail", "d")\nprint("e")'

        assert self.found(tmp_path / "one.py", source) == ["a", ("b", "c"), "d"]

    def test_finds_tags_and_blocks_of_templates(self, tmp_path):
        source = (
            '{% load i18n %}<p>  {% translate "a" %}\n    {% blocktranslate count n=n %}'
            "{{ n }} b{% plural %}{{ n }} c{% endblocktranslate %}</p>It's d"
        )

        assert self.found(tmp_path / "one.html", source) == ["a", ("%(n)s b", "%(n)s c")]

    def test_finds_the_help_of_subcommands(self, tmp_path):
        source = (
            'class Status:\n    """Show it.\n\n    In detail."""\n\n'
            "    def add_arguments(self, parser): ...\n    def run(self, options, write): ..."
        )

        assert self.found(tmp_path / "cli" / "one.py", source) == ["Show it."]
        assert self.found(tmp_path / "other.py", source) == []

    def test_finds_the_nouns_that_subcommands_count(self, tmp_path):
        source = 'count(2, "event")\ncount(len(a), "delivery", "deliveries")\ncount(b)'

        assert self.found(tmp_path / "cli" / "one.py", source) == [
            ("%(number)s event", "%(number)s events"),
            ("%(number)s delivery", "%(number)s deliveries"),
        ]


class TestTheChecks:
    def message(self, text: Text, string: Text) -> Message:
        return Catalog(locale="ja").add(text, string=string)

    def test_find_a_placeholder_that_is_missing_or_other(self):
        assert agrees(self.message("%(n)d of %(all)d", "%(all)d 件中 %(n)d 件"))
        assert not agrees(self.message("%(n)d of %(all)d", "%(n)d 件"))
        assert not agrees(self.message("%s", "%d"))
        assert not agrees(self.message("{} by {}", "{}"))

    def test_want_the_placeholders_of_the_plural(self):
        assert agrees(self.message(("one event", "%(n)s events"), ("イベント %(n)s 件",)))
        assert not agrees(self.message(("one event", "%(n)s events"), ("イベント",)))
