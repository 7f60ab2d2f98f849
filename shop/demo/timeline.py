"""Format an order's timeline in a few lines: events, durations and failures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from orders.models import Order
from outbox import timeline_of
from outbox.events import registry
from outbox.formatting import one_line
from outbox.monitor.timeline import FailedAttempt, TimelineDelivery, TimelineEvent
from shop.demo.customers import PlacedOrder

EMAILS = "notifications."
SINKS = "sinks."  # of a handler's name
SOURCE = "source:"  # of an actor
LONGEST = 100  # characters of an error
ENDS = {
    "out_of_stock": "cancelled: out of stock",
    "payment_declined": "cancelled: payment declined",
    "requested": "cancelled by the customer",
    "overdue": "cancelled: deadline passed",
}
CAUSES = {"died": "worker died", "lease_lost": "lease expired"}


@dataclass(frozen=True, kw_only=True, order=True)
class Entry:
    """An entry of the timeline."""

    at: datetime
    text: str


def lines_of(order: PlacedOrder) -> list[str]:
    """Return a heading, a line for each entry, and the end."""
    stored = Order.objects.get(pk=order.id)
    events = timeline_of(key=str(order.id))
    return [
        _heading(order),
        *timeline_lines(events, customer=order.spec.customer),
        _end(stored, events),
    ]


def timeline_lines(events: Sequence[TimelineEvent], *, customer: str) -> list[str]:
    """Return a line for each event, failure and e-mail, in the order of time."""
    began = min(event.emitted_at for event in events)
    entries = [_emission(event, _cause(event, events), customer) for event in events]
    for event in events:
        for delivery in event.deliveries:
            entries += [*_failures(delivery), *_emails(delivery), *_publications(event, delivery)]
    return [f"{(one.at - began).total_seconds():8.2f} s  {one.text}" for one in sorted(entries)]


def _cause(event: TimelineEvent, events: Sequence[TimelineEvent]) -> TimelineDelivery | None:
    """Return the delivery whose handler emitted this event; None if no handler did."""
    deliveries = (
        delivery
        for cause in events
        for delivery in cause.deliveries
        if cause.id == event.causation_id and delivery.handler == event.emitted_by
    )
    return next(deliveries, None)


def _heading(order: PlacedOrder) -> str:
    lines = ", ".join(f"{number} {sku}" for sku, number in order.spec.lines.items())
    answered = f"answered in {order.seconds * 1000:.0f} ms"
    if order.tries > 1:
        answered += f", try {order.tries}"
    if order.spec.sends_twice:
        answered += "; sent twice with one Idempotency-Key"
    return (
        f"{order.reference}  {order.spec.customer} orders {lines}, pays with "
        f"{order.spec.pays_with} ({answered})"
    )


def _emission(event: TimelineEvent, cause: TimelineDelivery | None, customer: str) -> Entry:
    emitter = event.emitted_by or _other_emitter(event, customer)
    reason = f" ({event.payload['reason']})" if event.payload.get("reason") else ""
    what = f"{event.name.partition('.')[2]}{reason}: {_summary(event.name)}"
    verb = "received" if _is_received(event) else "emitted"
    return Entry(at=event.emitted_at, text=f"{emitter} {verb} {what}{_duration_of(cause)}")


def _is_received(event: TimelineEvent) -> bool:
    """Return whether a source stored the event. Its effects have the same actor."""
    return event.actor.startswith(SOURCE) and not event.emitted_by


def _other_emitter(event: TimelineEvent, customer: str) -> str:
    """Return the name of an emitter that is not a handler."""
    if event.actor.startswith("user:"):
        return customer
    if event.actor.startswith(SOURCE):
        return f"the source {event.actor.removeprefix(SOURCE)}"
    return event.actor or "the bank"


def _summary(name: str) -> str:
    """Return the first clause of the event class's docstring."""
    text = one_line(registry[name][-1].__doc__ or "") if name in registry else ""
    beginning = re.split(r"[.:;] ", text)[0]
    return beginning[:1].lower() + beginning[1:]


def _duration_of(cause: TimelineDelivery | None) -> str:
    """Return the handler's duration, and the attempt at which it succeeded."""
    if cause is None or cause.started_at is None or cause.settled_at is None:
        return ""
    took = _duration(cause.started_at, cause.settled_at)
    return f" ({took}, attempt {cause.attempts})" if cause.attempts > 1 else f" ({took})"


def _duration(start: datetime, end: datetime) -> str:
    seconds = (end - start).total_seconds()
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _failures(delivery: TimelineDelivery) -> Iterator[Entry]:
    for failure in delivery.failures:
        yield Entry(at=failure.ended_at, text=f"{delivery.handler}: {_failure_text(failure)}")
    resent = delivery.token - delivery.attempts
    if resent > 0 and delivery.started_at:
        again = "once" if resent == 1 else f"{resent} times"
        text = f"{delivery.handler} was sent again {again}: no worker started it in time"
        yield Entry(at=delivery.started_at, text=text)
    if delivery.why:
        text = f"{delivery.handler} is {delivery.state}: {delivery.why}"
        yield Entry(at=delivery.due_at, text=text)


def _failure_text(failure: FailedAttempt) -> str:
    took = _duration(failure.started_at, failure.ended_at)
    cause = CAUSES.get(failure.outcome) or f"{failure.exception}: {one_line(failure.message)}"
    return f"attempt {failure.number} failed after {took}: {cause[:LONGEST]}"


def _emails(delivery: TimelineDelivery) -> Iterator[Entry]:
    if delivery.handler.startswith(EMAILS) and delivery.settled_at:
        yield Entry(at=delivery.settled_at, text=f"{delivery.handler} sent an e-mail")


def _publications(event: TimelineEvent, delivery: TimelineDelivery) -> Iterator[Entry]:
    if delivery.handler.startswith(SINKS) and delivery.started_at and delivery.settled_at:
        took = _duration(delivery.started_at, delivery.settled_at)
        text = f"{delivery.handler} published {event.name.partition('.')[2]} ({took})"
        reports = [one.text for one in delivery.settlements]
        yield Entry(at=delivery.settled_at, text="; ".join([text, *reports]))


def _end(stored: Order, events: Sequence[TimelineEvent]) -> str:
    began = min(event.emitted_at for event in events)
    settled = [
        delivery.settled_at
        for event in events
        for delivery in event.deliveries
        if delivery.settled_at
    ]
    end = ENDS.get(stored.cancel_reason) or stored.get_status_display()
    length = (max([*settled, began]) - began).total_seconds()
    return f"{'':10}  = {end}; all settled after {length:.1f} s"
