"""Due tasks of a queue are sent by priority, the highest first."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from outbox import subscribe
from outbox.models import Delivery
from outbox.testing import Outbox
from tests.outbox.drive import create_deliveries, run_message, run_messages, run_pass
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure

pytestmark = pytest.mark.django_db(transaction=True)


def enqueue(*priorities: int) -> None:
    for priority in priorities:
        jobs.note.using(priority=priority).enqueue(priority)


def run_one_by_one(outbox: Outbox) -> list[int]:
    """Run all that is due; return the arguments in the order of the calls."""
    jobs.seen.clear()
    outbox.deliver_all()
    return [args[0] for args, _kwargs in jobs.seen]


class TestATaskOfAHigherPriority:
    def test_is_claimed_before_earlier_ones(self, configure: Configure):
        outbox = configure(window=1)
        enqueue(0, -100, 5, 100, 5)
        create_deliveries()

        assert run_one_by_one(outbox) == [100, 5, 5, 0, -100]

    def test_is_claimed_first_of_those_that_arrive_in_one_pass(self, configure: Configure):
        outbox = configure(window=1)

        enqueue(0, -100, 100)

        assert run_one_by_one(outbox) == [100, 0, -100]

    def test_keeps_it_when_it_is_tried_again(self, configure: Configure):
        outbox = configure(window=1)
        jobs.fail_until.using(priority=9).enqueue(2)
        outbox.deliver_all(raise_errors=False)
        enqueue(8)
        create_deliveries()

        outbox.let_pass(timedelta(days=1))

        (message,) = run_pass()
        run_message(message)
        assert jobs.seen == ["attempt", "attempt"]

    def test_keeps_it_until_it_is_due(self, configure: Configure):
        outbox = configure(window=1)
        later = timezone.now() + timedelta(hours=1)
        jobs.note.using(priority=9, run_after=later).enqueue(9)
        outbox.let_pass(timedelta(hours=2))

        enqueue(0, 8)

        assert run_one_by_one(outbox) == [9, 8, 0]


class TestADeliveryWithoutAPriority:
    """A relay of the release before, or a backfill, has created it."""

    def test_is_claimed_after_the_others(self, configure: Configure):
        outbox = configure(window=1)
        enqueue(3)
        create_deliveries()
        Delivery.objects.update(priority=None)

        enqueue(-5)
        create_deliveries()

        assert run_one_by_one(outbox) == [-5, 3]


class TestADeliveryOfAHandler:
    def test_has_none(self, configure: Configure):
        configure()

        @subscribe("depot.PlaceAssigned")
        def label_place(parcel_id: UUID) -> None: ...

        Outbox().given("depot.PlaceAssigned", parcel_id=uuid4())
        jobs.note.enqueue()
        create_deliveries()

        rows = Delivery.objects.order_by("event").values_list("priority", flat=True)
        assert list(rows) == [None, 0]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="a plan of PostgreSQL")
class TestTheClaim:
    def test_reads_no_more_than_it_claims(self, configure: Configure):
        configure(window=1)
        enqueue(*[number % 50 for number in range(300)])
        create_deliveries()
        with connection.cursor() as cursor:
            cursor.execute("SET enable_sort = off")
            cursor.execute(
                "EXPLAIN SELECT id FROM outbox_delivery WHERE subscription_id = 1 AND "
                "state = 'pending' AND priority IS NOT NULL AND due_at <= now() "
                "ORDER BY priority DESC, due_at, id LIMIT 5"
            )
            plan = "\n".join([line for (line,) in cursor.fetchall()])
            cursor.execute("RESET enable_sort")

        assert "outbox_delivery_priority" in plan
        assert run_messages(run_pass())
