"""The doctor finds sinks and sources that are configured, and that `migrate` has not subscribed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import Settings

from outbox import databases
from outbox.deliveries.sync import sync_subscriptions
from outbox.doctor import Finding, connected, examine_without_broker
from outbox.models import Subscription
from outbox.monitor.previews import sink_states
from outbox.sinks.publishing import register_sinks
from outbox.sources.reading_again import subscribe_reader

SOURCE = {
    "BACKEND": "tests.outbox.sources.messages.NoSource",
    "TOPICS": ["invoices"],
    "GROUP": "tests",
}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


@pytest.fixture
def sink_and_source(own_registry: None, configure: Callable[..., None], settings: Settings) -> None:
    configure("analytics")
    settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {"billing": SOURCE}}
    register_sinks()
    subscribe_reader()


def found() -> list[Finding]:
    return list(connected.examine(using="default"))


@pytest.mark.usefixtures("sink_and_source")
class TestASinkAndASource:
    def test_are_errors_before_migrate(self):
        assert [(one.part, one.severity) for one in found()] == [
            ("sink analytics", "error"),
            ("source billing", "error"),
        ]
        assert all("configured, but not subscribed" in one.text for one in found())
        assert all("migrate" in one.advice for one in found())

    def test_name_the_database_to_migrate(self, shard: str):
        """Failed: "Run `manage.py migrate`", which migrates the default database only."""
        advice = {one.advice for one in connected.examine(using=shard)}

        assert advice == {
            "Run `manage.py migrate --database shard_1` with the same OUTBOX as the other "
            "processes."
        }
        with databases.working_on(shard):
            labels = [one.label for one in sink_states()]
        assert labels == ["not subscribed: run migrate --database shard_1"]

    def test_are_part_of_the_examination(self):
        parts = [one.part for one in examine_without_broker() if "not subscribed" in one.text]

        assert parts == ["sink analytics", "source billing"]

    def test_are_no_finding_after_migrate(self):
        sync_subscriptions()

        assert found() == []

    def test_are_errors_after_a_migrate_without_them(self):
        sync_subscriptions()
        Subscription.objects.update(known=False)

        assert [one.part for one in found()] == ["sink analytics", "source billing"]


def test_without_sinks_and_sources_there_is_no_finding():
    assert found() == []
