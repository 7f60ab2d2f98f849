"""Sources with several databases: reports reach the database of their event, HTTP names one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.models import F
from django.urls import path
from pytest_django import Settings

from outbox.models import Delivery, Event, Received, Settlement
from outbox.operations.corrections import correct_message
from outbox.settlements.recording import ReportsNotRecorded
from outbox.sinks import configuration
from outbox.sources import http, storing
from outbox.sources.reading_again import subscribe_reader
from outbox.testing import Outbox
from tests.outbox.databases.test_emission import deliver_in, events_in
from tests.outbox.settlements.world import EVENT, configure_sinks, report, report_message, source
from tests.outbox.sources import test_http
from tests.outbox.sources.messages import cloudevent, declare_invoice_paid
from tests.outbox.two_databases import sync_both, unreachable

pytestmark = pytest.mark.django_db(transaction=True)

urlpatterns = [
    path("events/<str:source>/", http.receive),
    path("<str:database>/events/<str:source>/", http.receive),
]


@pytest.fixture
def sinks(shard: str, settings: Settings) -> Iterator[None]:
    """The sink "log" in both databases, whose events "billing" settles, and the reader."""
    configure_sinks(settings, log={"EVENTS": [EVENT], "CONSUMERS": ["billing"]})
    subscribe_reader()
    sync_both()
    yield
    configuration.close_sinks()


def published_in(using: str) -> UUID:
    """Publish an event of a database to the sink; return its id."""
    found: Event = Outbox(using=using).given(EVENT, key=str(uuid4()))
    deliver_in(using)
    return found.id


def correct_report(event: UUID) -> None:
    """Store a report without its fields in the first database, and correct it."""
    storing.store(source(), [report_message(event, id="r-1", data={"id": str(event)})])
    deliver_in("default")
    dead = Delivery.objects.get(state="dead")
    body = report_message(event, id="r-1").body
    correct_message(dead.pk, body=body, by="ann", reason="its fields had other names")


def owed_in(using: str) -> list[str]:
    rows = Delivery.objects.using(using).filter(state__in=Delivery.OWED)
    return list(rows.values_list("state", flat=True))


def settlements_in(using: str) -> list[str]:
    return list(Settlement.objects.using(using).values_list("state", flat=True))


@pytest.mark.usefixtures("sinks")
class TestAReport:
    """It is received in the first database."""

    def test_settles_an_event_of_another_database(self, shard: str):
        event = published_in(shard)
        assert settlements_in(shard) == ["open"]

        counts = report(event)

        assert (counts["settlements"], counts.get("ignored", 0)) == (1, 0)
        assert settlements_in(shard) == ["settled"]
        assert settlements_in("default") == []
        assert Received.objects.count() == 1

    def test_settles_an_event_of_the_first_one(self, shard: str):
        event = published_in("default")

        report(event)

        assert settlements_in("default") == ["settled"]
        assert settlements_in(shard) == []

    def test_of_an_unknown_event_is_ignored(self, shard: str):
        assert report(uuid4())["ignored"] == 1

    def test_of_an_event_of_the_first_one_does_not_wait_for_the_others(self, shard: str):
        event = published_in("default")

        with unreachable(shard):
            report(event)

        assert settlements_in("default") == ["settled"]

    def test_is_received_again_if_the_other_database_lacks_a_migration(self, shard: str):
        """Failed: the report became a dead letter, and the other system did not send it again."""
        event = published_in(shard)
        rename = 'ALTER TABLE "{}" RENAME TO "{}"'
        with connections[shard].cursor() as cursor:
            cursor.execute(rename.format("outbox_settlement", "outbox_settlement_later"))
        try:
            with pytest.raises(ReportsNotRecorded, match="migrations have run"):
                report(event, id="r-1")
        finally:
            with connections[shard].cursor() as cursor:
                cursor.execute(rename.format("outbox_settlement_later", "outbox_settlement"))

        assert not Event.objects.filter(name="outbox.UnreadableMessageReceived").exists()
        report(event, id="r-1")
        assert settlements_in(shard) == ["settled"]

    def test_that_comes_again_after_half_of_it_is_recorded_once(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        event = published_in(shard)

        def fail(*_args: Any, **_options: Any) -> None:
            raise ConnectionResetError

        with monkeypatch.context() as patch:
            patch.setattr(storing, "claim", fail)
            with pytest.raises(ConnectionResetError):
                report(event, id="r-1")
        report(event, id="r-1")

        assert settlements_in(shard) == ["settled"]
        assert Received.objects.count() == 1

    def test_is_received_again_while_the_database_of_its_event_is_down(self, shard: str):
        event = published_in(shard)

        with unreachable(shard), pytest.raises(ReportsNotRecorded, match="shard_1 cannot store"):
            report(event, id="r-1")

        assert not Received.objects.exists()
        report(event, id="r-1")
        assert settlements_in(shard) == ["settled"]

    def test_waits_with_the_whole_batch(self, shard: str):
        """A message that is stored alone would be acknowledged before an earlier one."""
        event = published_in(shard)
        other = report_message(published_in("default"))

        with unreachable(shard), pytest.raises(ReportsNotRecorded):
            storing.store(source(), [other, report_message(event)])

        assert not Received.objects.exists()

    def test_that_is_corrected_settles_an_event_of_another_database(self, shard: str):
        """Failed: it was recorded in the database of the message only, which has no such event."""
        event = published_in(shard)

        correct_report(event)
        deliver_in("default")

        assert settlements_in(shard) == ["settled"]
        assert owed_in("default") == []

    def test_that_is_corrected_settles_an_event_of_its_own_database(self, shard: str):
        event = published_in("default")

        correct_report(event)
        deliver_in("default")

        assert settlements_in("default") == ["settled"]
        assert settlements_in(shard) == []

    def test_that_is_corrected_waits_for_the_database_of_its_event(self, shard: str):
        event = published_in(shard)
        correct_report(event)

        with unreachable(shard):
            [result] = deliver_in("default")

        assert isinstance(result.error, ReportsNotRecorded)
        assert owed_in("default") == ["pending"]
        Delivery.objects.update(due_at=F("due_at") - timedelta(days=1))
        deliver_in("default")
        assert settlements_in(shard) == ["settled"]


class TestAnHttpSource:
    @pytest.fixture(autouse=True)
    def billing(self, shard: str, settings: Settings) -> None:
        declare_invoice_paid()
        settings.ROOT_URLCONF = __name__
        test_http.configured(settings, options={"DATABASES": [shard]})

    def test_stores_in_the_database_of_its_address(self, shard: str):
        answer = self._post(f"/{shard}/events/billing/")

        assert answer.status_code == 204
        assert events_in(shard) == ["billing.InvoicePaid"]
        assert events_in("default") == []

    def test_stores_in_the_first_one_without_a_name(self, shard: str):
        assert self._post("/events/billing/").status_code == 204
        assert events_in("default") == ["billing.InvoicePaid"]

    @pytest.mark.parametrize("database", ["default", "shard_9"])
    def test_refuses_a_database_that_the_source_may_not_name(self, shard: str, database: str):
        """The signature does not cover the address: a recorded request could go to all shards."""
        answer = self._post(f"/{database}/events/billing/")

        assert answer.status_code == 404
        assert database not in answer.content.decode()

    def test_may_name_listed_databases_only(self, shard: str):
        options = {"SECRETS": [test_http.secret(test_http.KEY)], "DATABASES": ["shard_9"]}

        with pytest.raises(ImproperlyConfigured, match=r"which are: default, shard_1\."):
            http.HttpSource.validate_options("billing", options)

    def test_is_outside_of_the_transactions_of_all_databases(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        assert vars(http.receive)["_non_atomic_requests"] >= set(connections.settings) - {shard}

    def test_asks_to_send_again_while_that_database_is_down(self, shard: str):
        with unreachable(shard):
            assert self._post(f"/{shard}/events/billing/").status_code == 503

        assert events_in(shard) == []

    def _post(self, address: str) -> Any:
        return test_http.post(json.dumps(cloudevent(1)).encode(), address=address)
