"""An event, an ordered handler and drivers for the tests of order per key."""

from __future__ import annotations

from uuid import UUID, uuid4

from outbox import DomainEvent, subscribe
from outbox.deliveries.sync import sync_subscriptions
from outbox.testing import Outbox


class Walked(DomainEvent, key="order_id"):
    order_id: UUID
    number: int = 0


A, B = uuid4(), uuid4()


class Listener:
    """An ordered handler that records received events, and fails at the numbers in `failing`."""

    def __init__(self) -> None:
        self.received: list[tuple[UUID, int]] = []
        self.failing: dict[int, Exception] = {}

    def receive(self, order_id: UUID, number: int) -> None:
        if number in self.failing:
            raise self.failing[number]
        self.received.append((order_id, number))

    def subscribe(self, *events: str, **policy) -> None:
        def note(order_id: UUID, number: int) -> None:
            self.receive(order_id, number)

        policy = {"ordered": True, "backoff_base": 0, **policy}
        subscribe(*(events or ("tests.Walked",)), name="tests.note", **policy)(note)
        sync_subscriptions()


def emit_numbers(*numbers: int, key: UUID = A, name: str = "tests.Walked") -> None:
    for number in numbers:
        Outbox().given(name, order_id=key, number=number)
