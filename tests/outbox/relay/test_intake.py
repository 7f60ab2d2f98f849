"""A relay that claims for its own process claims no more than this process can start soon."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest

from outbox import DomainEvent, subscribe
from outbox.deliveries import shares
from outbox.models import Delivery
from outbox.relay.passes import relay_pass
from outbox.testing import Outbox
from outbox.transports.base import Message
from tests.outbox.drive import create_deliveries, emit_events, run_messages

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_registry", "no_nudge")]


class Ordered(DomainEvent, key="order_id"):
    order_id: UUID


class FakeIntake:
    """Takes a number of messages of some queues."""

    def __init__(self, free: int, *queues: str) -> None:
        self._free = free
        self._queues = queues
        self.has_run_out = False

    def serves(self, queue: str) -> bool:
        return not self._queues or queue in self._queues

    def free(self) -> int:
        return self._free

    def note_run_out(self) -> None:
        self.has_run_out = True


def claimed(intake: FakeIntake) -> list[Message]:
    return list(relay_pass(publish=lambda message: None, intake=intake).messages)


def store_for_owners(events: int, *, owners: int) -> None:
    """Store deliveries that wait, of several owners in turn."""
    emit_events("shops.Ordered", events)
    create_deliveries()
    for number, row in enumerate(Delivery.objects.order_by("id")):
        Delivery.objects.filter(pk=row.pk).update(share=f"owner:{number % owners}")


def handled(messages: list[Message]) -> Counter[str]:
    return Counter({one.handler.partition(".")[2]: 0 for one in messages}) + Counter(
        one.handler.partition(".")[2] for one in messages for _ in one.pairs
    )


class TestARelayWithAnIntake:
    def test_claims_new_deliveries_for_free_messages_only(self):
        """Seen to fail without `fitting` in the fan-out."""

        @subscribe("shops.Ordered", batch=10)
        def bill() -> None: ...

        emit_events("shops.Ordered", 35)

        messages = claimed(FakeIntake(2))

        assert [len(one.pairs) for one in messages] == [10, 10]
        assert Delivery.objects.filter(state="pending").count() == 15

    def test_claims_waiting_deliveries_for_free_messages_only(self):
        """Seen to fail without `fitting` in the claim."""

        @subscribe("shops.Ordered", batch=10)
        def bill() -> None: ...

        emit_events("shops.Ordered", 35)
        create_deliveries()

        assert [len(one.pairs) for one in claimed(FakeIntake(2))] == [10, 10]

    def test_counts_a_message_for_each_delivery_that_has_failed_before(self):
        @subscribe("shops.Ordered", batch=10)
        def bill() -> None: ...

        emit_events("shops.Ordered", 5)
        create_deliveries()
        Delivery.objects.update(attempts=1)

        assert [len(one.pairs) for one in claimed(FakeIntake(2))] == [1, 1]

    def test_counts_a_message_for_each_share(self):
        @subscribe("shops.Ordered", batch=10, share_window=5)
        def bill() -> None: ...

        store_for_owners(6, owners=3)

        messages = claimed(FakeIntake(2))

        assert [len(one.pairs) for one in messages] == [2, 2]

    def test_claims_from_each_share_in_turn(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: the first two owners had both free messages as long as they had a backlog."""
        monkeypatch.setattr(shares, "_stopped_at", {})

        @subscribe("shops.Ordered", batch=10, share_window=3)
        def bill() -> None: ...

        store_for_owners(60, owners=6)
        turns = []
        for _ in range(6):
            messages = claimed(FakeIntake(2))
            ids = [pk for one in messages for pk, _token in one.pairs]
            rows = Delivery.objects.filter(pk__in=ids).order_by("share")
            turns.append(list(rows.values_list("share", flat=True).distinct()))
            run_messages(messages)

        assert turns == 2 * [
            ["owner:0", "owner:1"],
            ["owner:2", "owner:3"],
            ["owner:4", "owner:5"],
        ]

    def test_leaves_a_queue_that_it_does_not_serve_to_others(self):
        @subscribe("shops.Ordered", queue="bills")
        def bill() -> None: ...

        @subscribe("shops.Ordered", queue="parcels")
        def pack() -> None: ...

        emit_events("shops.Ordered")

        assert handled(claimed(FakeIntake(5, "parcels"))) == {"pack": 1}
        assert handled(claimed(FakeIntake(5, "bills"))) == {"bill": 1}

    def test_fans_out_without_free_messages(self):
        @subscribe("shops.Ordered")
        def bill() -> None: ...

        emit_events("shops.Ordered", 3)
        intake = FakeIntake(0)

        assert claimed(intake) == []
        assert Delivery.objects.filter(state="pending").count() == 3
        assert intake.has_run_out

    def test_shares_its_messages_between_backlogs(self):
        """Seen to fail with the claims in a fixed order: the second handler waits for the first."""

        @subscribe("shops.Ordered", batch=1)
        def bill() -> None: ...

        @subscribe("shops.Ordered", batch=1)
        def pack() -> None: ...

        emit_events("shops.Ordered", 20)
        create_deliveries()

        assert handled(claimed(FakeIntake(8))) == {"bill": 4, "pack": 4}

    def test_does_not_shrink_the_window_of_a_handler_while_it_is_full(self):
        @subscribe("shops.Ordered", window=1000)
        def bill() -> None: ...

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=UUID(int=1))
        create_deliveries()

        claimed(FakeIntake(0))

        [row] = Delivery.objects.select_related("subscription")
        assert row.subscription.window_now >= 500
