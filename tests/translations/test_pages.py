"""No page shows English to a reader of Japanese, besides code names, data and other packages."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from django.db.models import Model
from django.test import Client

from outbox import events
from outbox.subscriptions import registry
from tests.shop.access import QUERIES
from tests.shop.addresses import Address, addresses
from tests.shop.rows import FAILURES, a_row_of_each
from tests.translations.visible import english_words, texts_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

JAPANESE = {"Accept-Language": "ja"}
#: Programs, formats and fields whose names are the same in Japanese.
NAMES = {"Accept", "Axes", "Celery", "Crontab", "Gone", "HTTP", "Id", "JSON", "Mermaid", "Message"}
NAMES |= {"RabbitMQ", "Redis", "Seq", "Web", "Webhook", "admin", "beat", "cron", "crontab", "emit"}
#: Django's own templates have these untranslated, as `alt` of an icon.
NAMES |= {"Search", "True", "False"}
#: The symbol of milliseconds.
NAMES |= {"ms"}
#: They have names of time zones, stored permissions, and rows that name themselves.
#: Swagger UI writes its own words in English, and the page says so.
IN_ENGLISH = {"docs"}
OTHER_PACKAGES = ("admin:auth_", "admin:axes_", "admin:django_celery_beat_")


def known_words(rows: Mapping[type[Model], Model]) -> frozenset[str]:
    """Return the words of names in the code, and of the stored data."""
    names = [*events.registry, *(one.name for one in registry), *FAILURES.values()]
    data = [
        str(value)
        for row in rows.values()
        for field in row._meta.concrete_fields
        if isinstance(value := getattr(row, field.attname), str)
    ]
    return frozenset(re.findall(r"[A-Za-z]{2,}", " ".join([*names, *data]))) | NAMES


def pages() -> list[Address]:
    return [
        one
        for one in addresses()
        if one.name not in IN_ENGLISH and not one.name.startswith(OTHER_PACKAGES)
    ]


class TestAPageInJapanese:
    def test_has_no_english_text_and_names_its_language(self, admin_client: Client):
        rows = a_row_of_each()
        known, languages = known_words(rows), set()
        found: dict[str, tuple[str, list[str]]] = {}

        for one in pages():
            url = one.url(rows) + QUERIES.get(one.name, "")
            answer = admin_client.get(url, headers=JAPANESE)
            is_shown = answer.status_code == 200 and "html" in answer.get("Content-Type", "")
            page = answer.content.decode() if is_shown else ""
            languages |= set(re.findall(r"<html[^>]*\blang=\"([\w-]+)\"", page))
            for text in texts_of(page):
                if words := english_words(text, known=known):
                    found.setdefault(text, (one.name or one.route, words))

        assert found == {}
        assert languages == {"ja"}


class TestTheSearchForEnglish:
    def english(self, page: str) -> list[str]:
        return [word for text in texts_of(page) for word in english_words(text)]

    def test_finds_words_of_texts_titles_and_buttons(self):
        page = '<p title="Three">One <b>two</b> 三つ</p><br><input type="submit" value="Four">'

        assert self.english(page) == ["Three", "One", "two", "Four"]

    def test_skips_code_names_and_addresses(self):
        page = (
            "<code>some code</code><pre>more code</pre><p>orders.OrderPlaced order_id "
            "`manage.py migrate` a@example.com https://example.com/ --reason PostgreSQL 3d</p>"
            '<p lang="en">An <b>English</b> text</p><span class="outbox-mono">name of it</span>'
        )

        assert self.english(page) == []
