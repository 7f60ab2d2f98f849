"""Two systems of this code, connected by Kafka: each event is settled, whoever is killed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from outbox import timeline_of
from outbox.deliveries import failpoints
from outbox.models import Delivery, Event, Received, Settlement, SourceState
from tests.databases import fresh_database
from tests.outbox.settlements.system import system
from tests.outbox.sources.receiving import database_url
from tests.processes import Running, eventually
from tests.servers.kafka import KafkaServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


class TwoSystems:
    """The settings of "shop", on the database of the test, and of "billing", on its own.

    Both have a `group.instance.id`: the emulator never evicts another member that was killed.
    """

    def __init__(self, kafka: KafkaServer, billing_database: str) -> None:
        self.billing_database = billing_database
        self._servers = kafka.bootstrap_servers
        self._orders, self._answers = kafka.create_topic(partitions=2), kafka.create_topic()

    def shop(self, **sink: Any) -> dict[str, Any]:
        orders = {
            "EVENTS": ["shops.Ordered"],
            "TOPIC": self._orders,
            "SENSITIVE": True,
            "CONSUMERS": ["billing"],
            **sink,
        }
        return self._outbox("shop", orders, self._source(self._answers, "shop"), of="billing")

    def billing(self, **options: Any) -> dict[str, Any]:
        answers = {"EVENTS": ["outbox.Settled"], "TOPIC": self._answers}
        source = self._source(self._orders, "billing", **options)
        return self._outbox("billing", answers, {**source, "SETTLES_AS": "billing"}, of="shop")

    def _outbox(
        self, name: str, sink: dict[str, Any], source: dict[str, Any], *, of: str
    ) -> dict[str, Any]:
        options = {"bootstrap.servers": self._servers}
        kafka = {"BACKEND": "outbox.sinks.kafka.KafkaSink", "OPTIONS": options, **sink}
        return {"SOURCE": f"/{name}", "SINKS": {"kafka": kafka}, "SOURCES": {of: source}}

    def _source(self, topic: str, group: str, **options: Any) -> dict[str, Any]:
        return {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": [topic],
            "GROUP": f"{group}-{topic}",
            "OPTIONS": {
                "bootstrap.servers": self._servers,
                "session.timeout.ms": 6000,
                "group.instance.id": group,
                **options,
            },
        }


@pytest.fixture
def systems(kafka: KafkaServer) -> Iterator[TwoSystems]:
    with fresh_database() as database:
        yield TwoSystems(kafka, database)


def emit(number: int, *, first: int = 0) -> None:
    """Store orders in the shop's database. Only the shop's process knows its handlers."""
    Event.objects.bulk_create(
        Event(
            name="shops.Ordered",
            key=str(position),
            payload={"number": position},
            emitted_at=timezone.now(),
            correlation_id=uuid4(),
        )
        for position in range(first, first + number)
    )


def settled() -> int:
    return Settlement.objects.filter(state="settled").count()


def reports() -> int:
    """Return the number of reports that the shop has received, without redelivered ones."""
    return Received.objects.filter(source="billing").count()


def invoices(process: Running) -> list[int]:
    return sorted(int(number) for number in re.findall(r"invoice (\d+)\.", process.output))


class TestTwoSystems:
    def test_settle_each_event_once(self, systems: TwoSystems):
        with (
            system(database_url(), systems.shop()),
            system(systems.billing_database, systems.billing()) as billing,
        ):
            emit(20)
            eventually(lambda: settled() == 20, "all settlements")

        assert reports() == 20
        assert invoices(billing) == list(range(20))
        [order] = timeline_of(key="7")
        [settlement] = order.deliveries[0].settlements
        assert re.fullmatch(r"billing: done after \d+\.\d s", settlement.text)

    def test_settle_an_event_that_was_lost_on_its_way(self, systems: TwoSystems):
        """Billing begins to receive after the publication, so only a replay reaches it."""
        with system(database_url(), systems.shop(SETTLE_SECONDS=3, SETTLE_REPLAYS=20)):
            emit(1)
            eventually(lambda: Delivery.objects.filter(state="done").exists(), "the publication")
            options = {"auto.offset.reset": "latest"}
            with system(systems.billing_database, systems.billing(**options)) as billing:
                eventually(lambda: settled() == 1, "the settlement")

        assert Settlement.objects.get().replays >= 1
        assert invoices(billing) == [0]

    def test_close_a_dead_letter_by_a_late_report(self, systems: TwoSystems):
        with system(database_url(), systems.shop(SETTLE_SECONDS=0.5, SETTLE_REPLAYS=1)):
            emit(1)
            eventually(lambda: Delivery.objects.filter(state="dead").exists(), "the dead letter")
            assert Settlement.objects.get().state == "missing"
            with system(systems.billing_database, systems.billing()) as billing:
                eventually(lambda: settled() == 1, "the settlement")

        assert Delivery.objects.get().state == "done"
        assert invoices(billing) == [0]


class TestAConsumerThatIsKilled:
    def test_reports_each_event_after_its_restart(self, systems: TwoSystems):
        with system(database_url(), systems.shop(LEASE_SECONDS=4)):
            emit(10)
            database, settings = systems.billing_database, systems.billing()
            settings["LEASE_SECONDS"] = 2
            with system(database, settings, die_at=failpoints.BEFORE_REPORT) as billing:
                assert billing.ends() == -signal.SIGKILL
            with system(database, settings):
                eventually(lambda: settled() == 10, "all settlements")

        assert reports() == 10


class TestAProducerThatIsKilled:
    def test_records_each_report_once_after_its_restart(self, systems: TwoSystems):
        with system(systems.billing_database, systems.billing()):
            with system(database_url(), systems.shop(), die_at=failpoints.AFTER_STORE) as shop:
                emit(10)
                assert shop.ends() == -signal.SIGKILL
            with system(database_url(), systems.shop(LEASE_SECONDS=4)):
                eventually(lambda: settled() == 10, "all settlements")

        assert reports() == 10
        assert SourceState.objects.filter(ignored__gt=0).count() == 0
