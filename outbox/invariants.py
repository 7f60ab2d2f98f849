"""Invariants of the outbox's own tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from .models import Delivery, Event, Settlement, Subscription
from .reconciliation import Difference, Examination, invariant

State = Delivery.State

# A fan-out that began before a subscription was committed does not see it.
NEW_SUBSCRIPTION = timedelta(minutes=1)


@invariant(
    remedy="Find the program that wrote to the outbox's tables. The handler did not run for this "
    "event. `manage.py outbox backfill HANDLER` creates its delivery."
)
def every_subscription_has_its_delivery(examination: Examination) -> Iterator[Difference]:
    """Each event has one delivery for each subscription that was active when it was fanned out.

    A corrected event has a delivery for the handler that it was corrected for.
    """
    events = Event.objects.using(examination.using).filter(fanned_out_at__isnull=False)
    examination.count_rows(events.count())
    yield from _corrections_without_delivery(events)
    events = events.filter(corrects=None)
    for row in Subscription.objects.using(examination.using).filter(active=True).order_by("id"):
        own = Delivery.objects.using(examination.using).filter(
            event=OuterRef("pk"), subscription=row
        )
        since = row.since + NEW_SUBSCRIPTION
        later = events.filter(row.events_condition(), fanned_out_at__gt=since)
        for event in later.filter(~Exists(own)).order_by("seq").iterator():
            facts = {"event": event, "handler": row.handler}
            text = _("%(event)s was fanned out, but has no delivery to %(handler)s.")
            yield Difference(text % facts, key=event.key, row=event)


@invariant(
    remedy="Find the program that wrote to the outbox's tables. The event will be delivered again."
)
def waiting_events_have_no_delivery(examination: Examination) -> Iterator[Difference]:
    """An event that waits for fan-out has no delivery."""
    waiting = Event.objects.using(examination.using).filter(fanned_out_at=None)
    examination.count_rows(waiting.count())
    delivered = Delivery.objects.using(examination.using).filter(event=OuterRef("pk"))
    for event in waiting.filter(Exists(delivered)).order_by("seq").iterator():
        text = _("%(event)s waits for fan-out, but already has deliveries.")
        yield Difference(text % {"event": event}, key=event.key, row=event)


@invariant(remedy="Check whether the handler's effect exists twice for this event.")
def one_receipt_for_each_handler(examination: Examination) -> Iterator[Difference]:
    """A handler has at most one receipt for an event."""
    done = Delivery.objects.using(examination.using).filter(state=State.DONE).order_by()
    examination.count_rows(done.count())
    # A subscription has one delivery of an event and target. A second receipt has another one.
    others = done.filter(
        event=OuterRef("event"),
        target=OuterRef("target"),
        subscription__handler=OuterRef("subscription__handler"),
        pk__lt=OuterRef("pk"),
    )
    for row in _with_names(done.filter(Exists(others))):
        text = _("%(handler)s has more than one receipt for %(event)s.")
        yield Difference(text % _names(row), key=row.event.key, row=row)


@invariant(
    remedy="Find the program that wrote to the outbox's tables. The handler may not have run."
)
def receipts_are_complete(examination: Examination) -> Iterator[Difference]:
    """A done delivery was started under its latest token, and a settled one has its time."""
    settled = Delivery.objects.using(examination.using).filter(state__in=Delivery.SETTLED)
    examination.count_rows(settled.count())
    never_ran = Q(state=State.DONE) & (Q(attempts=0) | ~Q(started_token=F("token")) | Q(token=0))
    for row in _with_names(settled.filter(never_ran | Q(settled_at=None))):
        facts = {**_names(row), "state": row.get_state_display()}
        text = _("%(event)s is %(state)s for %(handler)s, without a run that settled it.")
        yield Difference(text % facts, key=row.event.key, row=row)


@invariant(
    remedy="Find the program that wrote to the outbox's tables. `manage.py outbox why` shows the "
    "delivery; retry or discard it."
)
def settlements_match_their_deliveries(examination: Examination) -> Iterator[Difference]:
    """A missing settlement has a dead delivery, and a settled one has its time."""
    rows = Settlement.objects.using(examination.using).order_by("pk")
    examination.count_rows(rows.count())
    rows = rows.select_related("delivery__event", "delivery__subscription")
    not_dead = Q(state=Settlement.State.MISSING) & ~Q(delivery__state=State.DEAD)
    without_time = Q(state=Settlement.State.SETTLED, settled_at=None)
    for row in rows.filter(not_dead | without_time).iterator():
        facts = {
            "consumer": row.consumer,
            "event": row.delivery.event,
            "state": row.get_state_display(),
            "delivery": row.delivery.get_state_display(),
        }
        text = _(
            "The settlement of %(event)s by %(consumer)s is %(state)s, and its delivery is "
            "%(delivery)s."
        )
        yield Difference(text % facts, key=row.delivery.event.key, row=row.delivery)


def _corrections_without_delivery(events: QuerySet[Event]) -> Iterator[Difference]:
    deliveries = Delivery.objects.using(events.db).filter(event=OuterRef("pk"))
    corrections = events.filter(~Exists(deliveries), corrects__isnull=False)
    for event in corrections.order_by("seq").iterator():
        text = _("%(event)s corrects another event, but has no delivery.")
        yield Difference(text % {"event": event}, key=event.key, row=event)


def _with_names(rows: QuerySet[Delivery]) -> Iterator[Delivery]:
    return rows.select_related("event", "subscription").order_by("pk").iterator()


def _names(row: Delivery) -> dict[str, object]:
    return {"event": row.event, "handler": row.subscription.handler}
