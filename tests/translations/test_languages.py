"""Who reads what in which language: browsers, programs, terminals."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import translation

from outbox.doctor.findings import ok
from outbox.formatting import span
from tests.translations.test_catalogues import JAPANESE

pytestmark = [pytest.mark.django_db, pytest.mark.once]


class TestAnAnswerOfTheApi:
    @pytest.mark.parametrize(("asked", "is_japanese"), [("ja", True), ("en", False), ("", False)])
    def test_is_in_the_language_of_the_request(self, client: Client, asked, is_japanese):
        answer = client.get("/api/nothing/", headers={"Accept-Language": asked})
        problem = answer.json()

        assert answer["Content-Language"] == ("ja" if is_japanese else "en")
        for name in ("title", "detail"):
            assert bool(JAPANESE.search(problem[name])) is is_japanese
        assert problem["code"] == "not_found"


class TestACommand:
    def test_writes_in_the_active_language(self):
        written = StringIO()

        with translation.override("ja"):
            call_command("outbox", "blocked", stdout=written)

        assert written.getvalue() == "ブロック中のキーはありません。\n"

    def test_explains_an_error_in_the_active_language(self):
        with (
            translation.override("ja"),
            pytest.raises(CommandError, match="7 に一致するものはありません"),
        ):
            call_command("outbox", "why", "7")

    def test_counts_in_the_active_language(self):
        written = StringIO()

        with translation.override("ja"):
            call_command("outbox", "relay", once=True, stdout=written)

        assert written.getvalue() == "メッセージ 0 件を送信しました。\n"


class TestAFinding:
    def test_has_a_part_for_programs_and_a_label_for_people(self):
        queue, relay, other = (ok(part, "") for part in ("queue orders", "relay", "own part"))

        with translation.override("ja"):
            assert [one.part for one in (queue, relay)] == ["queue orders", "relay"]
            assert [one.label for one in (queue, relay)] == ["キュー orders", "リレー"]
            assert other.label == "own part"


class TestASpan:
    def test_has_its_units_in_the_active_language(self):
        with translation.override("ja"):
            assert span(timedelta(hours=2, minutes=5)) == "2 時間 5 分"
        assert span(timedelta(hours=2, minutes=5)) == "2 h 5 min"
