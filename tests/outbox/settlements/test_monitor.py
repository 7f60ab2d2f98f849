"""Health, doctor, metrics, status, map and reconciliation show what consumers owe."""

from __future__ import annotations

import json

import pytest
from django.db.models import F
from pytest_django import DjangoAssertNumQueries

from outbox.admin.event_map import network
from outbox.doctor import owed
from outbox.metrics import families
from outbox.models import Delivery
from outbox.monitor.consumers import consumer_statuses
from outbox.monitor.groups import groups
from outbox.monitor.health import health_of_parts
from outbox.monitor.status import status
from outbox.reconciliation.examination import reconcile
from tests.outbox.command import outbox_command
from tests.outbox.settlements.world import (
    emit_order,
    owe_settlements,
    publish,
    report,
)
from tests.outbox.sinks.memory import MemorySink

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owing(sink: MemorySink) -> None:
    owe_settlements()


def health() -> tuple[str, bool, str]:
    [part] = [one for one in health_of_parts() if one.part == "consumer"]
    return part.name, part.is_on, part.text


class TestAConsumerThatOwesSettlements:
    def test_is_counted(self, owing):
        [one] = status().consumers

        assert (one.consumer, one.handler) == ("billing", "sinks.log")
        assert (one.open, one.late, one.missing) == (2, 1, 1)

    def test_is_unhealthy(self, owing):
        assert health() == ("consumer billing", False, "settlements: 1 late, 1 missing")

    def test_is_a_finding_of_the_doctor(self, owing):
        texts = [one.text for one in owed.examine(using="default")]

        assert (
            "billing has not settled events of sinks.log in time: 1 late, 1 missing (dead letters)."
        ) in texts

    def test_is_a_metric(self, owing):
        [family] = [one for one in families() if one.name == "outbox_settlements"]

        assert dict(family.samples) == {
            ("sinks.log", "billing", "open"): 2,
            ("sinks.log", "billing", "late"): 1,
            ("sinks.log", "billing", "missing"): 1,
        }

    def test_is_in_the_status(self, owing):
        text = outbox_command("status")
        found = json.loads(outbox_command("status", "--json"))

        assert "CONSUMER" in text
        [one] = found["consumers"]
        assert (one["consumer"], one["open"], one["late"], one["missing"]) == ("billing", 2, 1, 1)

    def test_is_named_by_the_group_of_dead_letters(self, owing):
        [group] = groups()

        assert group.handler == "sinks.log"
        assert group.cause == "published, and not settled by a consumer in time"

    def test_is_checked_before_a_retry(self, owing):
        [group] = groups()

        text = outbox_command("groups")

        assert f"first check the consumer: manage.py outbox why {group.example}" in text
        assert f"to publish them again: {group.retry}" in text


class TestAConsumerThatSettlesInTime:
    def test_is_healthy(self, sink: MemorySink):
        event = emit_order()
        publish()
        report(event)

        assert health() == ("consumer billing", True, "settles in time")

    def test_costs_no_query_without_a_sink_that_expects_it(
        self, own_registry, django_assert_num_queries: DjangoAssertNumQueries
    ):
        with django_assert_num_queries(0):
            assert consumer_statuses([]) == []

    def test_is_named_on_the_map(self, sink: MemorySink):
        emit_order()

        assert {one.note for one in network().arrows} == {"settled by billing"}


class TestReconciliation:
    def test_accepts_what_the_outbox_stores(self, owing):
        assert reconcile().is_balanced

    def test_finds_a_missing_settlement_whose_delivery_is_not_dead(self, owing):
        Delivery.objects.filter(state="dead").update(state="done", settled_at=F("due_at"))

        [difference] = [row for one in reconcile().findings for row in one.kept]

        assert "by billing is missing, and its delivery is done" in difference.text
