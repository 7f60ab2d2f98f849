"""A report whose message was received before settles an event that was not expected to be then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from outbox import operations
from outbox.models import Delivery, Received, Settlement, Subscription
from outbox.monitor.consumers import consumer_statuses
from outbox.sinks import configuration
from outbox.testing import Outbox
from tests.outbox.drive import states
from tests.outbox.settlements.world import (
    EVENT,
    configure_sinks,
    emit_order,
    let_deadlines_pass,
    publish,
    report,
    settlements,
)
from tests.threads import run_together

pytestmark = pytest.mark.django_db(transaction=True)


def expect_billing(settings: Settings, **keys: Any) -> None:
    configure_sinks(settings, log={"EVENTS": [EVENT], "CONSUMERS": ["billing"], **keys})
    Outbox()


@pytest.fixture
def early(own_registry: None, settings: Settings) -> Iterator[UUID]:
    """An event that billing has reported as "r-1" before the sink expected that."""
    configure_sinks(settings, log={"EVENTS": [EVENT]})
    event = emit_order()
    publish()
    assert report(event, id="r-1")["ignored"] == 1
    yield event
    configuration.close_sinks()


@pytest.fixture
def missing(early: UUID, settings: Settings) -> UUID:
    """The same event after a replay, whose settlement is missing."""
    expect_billing(settings, SETTLE_REPLAYS=0)
    operations.replay(operations.Choice(handler="sinks.log"), by="ann", reason="a new consumer")
    publish()
    let_deadlines_pass()
    publish()
    assert (settlements(), states()) == ([("billing", "missing")], ["dead"])
    return early


def rows() -> list[dict[str, Any]]:
    """Return all columns of the settlements and of their deliveries."""
    return [dict(one) for one in (*Settlement.objects.values(), *Delivery.objects.values())]


class TestADuplicateReport:
    def test_settles_a_missing_settlement(self, missing: UUID):
        """Failed: it was dropped, and the dead letter stayed."""
        report(missing, id="r-1")

        assert (settlements(), states()) == ([("billing", "settled")], ["done"])

    def test_settles_an_open_one(self, early: UUID, settings: Settings):
        expect_billing(settings)
        operations.replay(operations.Choice(handler="sinks.log"), by="ann", reason="again")
        publish()

        report(early, id="r-1")

        assert settlements() == [("billing", "settled")]

    def test_changes_nothing_when_it_is_repeated(self, missing: UUID):
        report(missing, id="r-1")
        before = rows()

        report(missing, id="r-1")

        assert rows() == before

    def test_is_counted_as_a_duplicate_only(self, missing: UUID):
        counts = report(missing, id="r-1")

        assert {name: number for name, number in counts.items() if number} == {"duplicates": 1}
        assert Received.objects.count() == 1

    def test_leaves_no_settlement_that_is_owed(self, missing: UUID):
        report(missing, id="r-1")

        [found] = consumer_statuses(Subscription.objects.filter(active=True))
        assert (found.open, found.late, found.missing) == (0, 0, 0)

    def test_after_a_retry_keeps_the_number_of_replays(self, missing: UUID, settings: Settings):
        expect_billing(settings)
        operations.retry(operations.Choice(handler="sinks.log"), by="ann", reason="it is back")
        publish()
        let_deadlines_pass()
        publish()
        assert Settlement.objects.get().replays == 1

        report(missing, id="r-1")

        found = Settlement.objects.get()
        assert (found.state, found.replays) == ("settled", 1)
        [status] = consumer_statuses(Subscription.objects.filter(active=True))
        assert (status.open, status.late, status.missing) == (0, 0, 0)

    def test_of_a_consumer_that_no_sink_expects_changes_nothing(self, early: UUID):
        before = rows()

        counts = report(early, id="r-1")

        assert rows() == before
        assert counts["duplicates"] == 1

    def test_is_recorded_once_by_two_processes(self, missing: UUID):
        run_together([lambda: report(missing, id="r-1")] * 2)

        assert (settlements(), states()) == ([("billing", "settled")], ["done"])
