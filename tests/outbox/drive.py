"""Drive the outbox in a test: emit events, run a pass, run messages, and read the results."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db.models import F

from outbox.models import Attempt, Delivery, Event
from outbox.relay.passes import relay_pass
from outbox.testing import Outbox
from outbox.transports.base import Message
from outbox.worker.delivery import deliver
from outbox.worker.outcome import Result


class Died(BaseException):
    """The process died. Like a kill, it passes every `except Exception`."""


def die() -> None:
    raise Died


def emit_orders(number: int = 1) -> Outbox:
    """Sync the subscriptions and emit "shops.Ordered", numbered from 0 on."""
    outbox = Outbox()
    for position in range(number):
        outbox.given("shops.Ordered", order_id=uuid4(), number=position)
    return outbox


def emit_parcels(number: int = 1, outbox: Outbox | None = None) -> list[Event]:
    """Emit "parcels.ParcelSent". Sync the subscriptions first, if no `outbox` is given."""
    outbox = outbox or Outbox()
    return [outbox.given("parcels.ParcelSent", parcel_id=uuid4()) for _ in range(number)]


def emit_events(name: str, number: int = 1) -> None:
    """Sync the subscriptions and emit events of this name, each with a new `order_id`."""
    outbox = Outbox()
    for _ in range(number):
        outbox.given(name, order_id=uuid4())


def run_pass(**options: Any) -> list[Message]:
    """Run a pass of the relay. Return its messages; no broker gets them."""
    return list(relay_pass(publish=lambda message: None, **options).messages)


def create_deliveries() -> None:
    """Fan out the events of one pass, and send no delivery."""
    run_pass(only=[])


def run_message(message: Message, *, worker: str = "w1") -> list[Result]:
    """Run the deliveries of a message as a worker does."""
    return deliver(handler_name=message.handler, pairs=message.pairs, worker=worker)


def run_messages(messages: Iterable[Message]) -> list[Result]:
    return [result for message in messages for result in run_message(message)]


def expire_leases_and_backoffs() -> None:
    Delivery.objects.update(due_at=F("due_at") - timedelta(days=1))


def states() -> list[str]:
    """Return the state of each delivery, in order of its event."""
    return list(Delivery.objects.order_by("event", "id").values_list("state", flat=True))


def states_and_attempts() -> list[tuple[str, int]]:
    return list(Delivery.objects.order_by("id").values_list("state", "attempts"))


def outcomes() -> list[str]:
    """Return the outcome of each stored attempt."""
    return list(Attempt.objects.order_by("id").values_list("outcome", flat=True))
