"""Texts for people: lists and sentences have the punctuation of the active language."""

from __future__ import annotations

import pytest
from django.template import Context, Template
from django.utils import translation

from outbox.formatting import listing, migrate_command
from outbox.monitor.stops import PAUSE, Stop

pytestmark = pytest.mark.once


class TestAList:
    def test_has_commas_in_english(self):
        assert listing(["a", "b"]) == "a, b"

    def test_has_japanese_commas_in_japanese(self):
        template = Template("{% load outbox_display %}{{ names|listing }}")

        with translation.override("ja"):
            assert listing(["a", "b"]) == "a、b"
            assert template.render(Context({"names": ["a", "b"]})) == "a、b"


class TestTheTextOfAStop:
    STOP = Stop(kind=PAUSE, cause="Paused", reason="a test", next_step="Resume it.")

    def test_is_two_sentences(self):
        assert self.STOP.text == "Paused (a test). Resume it."

    def test_has_a_japanese_full_stop_in_japanese(self):
        with translation.override("ja"):
            assert self.STOP.text == "Paused (a test)。Resume it."


class TestTheCommandMigrate:
    def test_names_each_database_but_the_one_that_django_migrates_anyway(self):
        assert migrate_command("default") == "migrate"
        assert migrate_command("shard_1") == "migrate --database shard_1"
