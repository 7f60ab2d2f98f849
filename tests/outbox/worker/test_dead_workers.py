"""The deliveries of a message whose worker is killed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.db.models import F

from outbox import Receipt, subscribe
from outbox.models import Attempt, Delivery
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import run_message, run_pass, states
from tests.threads import aside

pytestmark = pytest.mark.usefixtures("own_registry")


class Killed(BaseException):
    """A kill by the kernel's out-of-memory killer. No handler catches it."""


def emit_orders_with_poison(number: int) -> None:
    outbox = Outbox()
    for count in range(number):
        outbox.given("shops.Ordered", order_id=uuid4(), is_poison=not count)


def run_messages_with_kills(messages: list[Message]) -> None:
    """Run messages in workers of which some are killed."""
    for message in messages:
        try:
            run_message(message)
        except Killed:
            continue


def run_until_settled() -> None:
    """Expire leases and backoffs, run a pass and its messages, until all deliveries are settled."""
    for _ in range(20):
        Delivery.objects.filter(state__in=["pending", "sent"]).update(
            due_at=F("due_at") - timedelta(days=1)
        )
        run_messages_with_kills(run_pass())
        if not Delivery.objects.filter(state__in=["pending", "sent"]).exists():
            return
    raise AssertionError("Some deliveries are never settled.")


class TestAnEventThatKillsItsWorker:
    def test_ends_as_dead_and_leaves_its_neighbours_alive(self, settings):
        """Rule 11. Seen to go round for ever without the start marker or `attempts + 1`."""

        @subscribe("shops.Ordered")
        def count(order_id: UUID, is_poison: bool) -> None:
            if is_poison:
                raise Killed
            Group.objects.create(name=str(order_id))

        settings.OUTBOX = {"MAX_WORKER_CRASHES": 3}
        emit_orders_with_poison(4)

        run_until_settled()

        assert states() == ["dead", "done", "done", "done"]
        assert Group.objects.count() == 3
        assert Attempt.objects.filter(delivery__state="dead").count() == 3

    def test_leaves_the_neighbours_in_a_second_message_alive(self):
        """Rule 11. Seen to fail with what once failed in a batch with the rest."""

        @subscribe("shops.Ordered")
        def count(is_poison: bool) -> None:
            if is_poison:
                raise Killed

        emit_orders_with_poison(4)

        run_until_settled()

        neighbours = Attempt.objects.filter(delivery__state="done")
        assert neighbours.count() == 3, "once, in the batch, and never again"

    def test_leaves_a_neighbour_with_a_single_attempt_alive(self):
        """Rule 11. Seen to fail with a batch for such a handler: all of it is dead at once."""

        @subscribe("shops.Ordered", attempts=1)
        def count(is_poison: bool) -> None:
            if is_poison:
                raise Killed

        emit_orders_with_poison(4)

        run_until_settled()

        assert states() == ["dead", "done", "done", "done"]

    def test_leaves_its_neighbours_alive_if_one_crash_is_the_limit(self, settings):
        @subscribe("shops.Ordered")
        def count(is_poison: bool) -> None:
            if is_poison:
                raise Killed

        settings.OUTBOX = {"MAX_WORKER_CRASHES": 1}
        emit_orders_with_poison(4)

        run_until_settled()

        assert states() == ["dead", "done", "done", "done"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_nudge")
class TestTheStartMarker:
    def test_is_committed_for_the_whole_batch_before_the_first_handler_runs(self):
        """Rule 11. Seen to fail with the marker written with the receipt, and one by one."""
        seen: list[list[tuple[int, int]]] = []

        def look() -> None:
            rows = Delivery.objects.order_by("id").values_list("attempts", "started_token")
            seen.append(list(rows))

        @subscribe("shops.Ordered", atomic=False, batch=3)
        def charge(receipt: Receipt) -> None:
            if not seen:
                aside(look)
            with receipt:
                pass

        emit_orders_with_poison(3)

        run_messages_with_kills(run_pass())

        assert seen == [[(1, 1)] * 3]
