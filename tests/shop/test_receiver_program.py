"""`make up` receives the sources that are configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop.up.programs import Project
from shop.up.stack import Options, _workers

pytestmark = pytest.mark.once


@pytest.fixture
def names():
    project = Project(root=Path(), environment={}, worker_grace=1.0)
    return lambda: [one.name for one in _workers(Options(data=Path()), project)]


class TestMakeUp:
    def test_starts_no_receiver_without_sources(self, names):
        assert "receive" not in names()

    def test_starts_a_receiver_for_sources_that_are_pulled(self, names, settings):
        pulled = {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": ["invoices"],
            "GROUP": "shop",
        }
        settings.OUTBOX = {"SOURCES": {"billing": pulled}}

        assert "receive" in names()

    def test_starts_none_for_a_source_that_is_called(self, names, settings):
        called = {"BACKEND": "outbox.sources.http.HttpSource", "OPTIONS": {"SECRETS": ["x"]}}
        settings.OUTBOX = {"SOURCES": {"billing": called}}

        assert "receive" not in names()
