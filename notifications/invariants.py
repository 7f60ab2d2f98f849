"""Invariants of the e-mails: one for each event that requires one, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from notifications.models import Email
from orders import queries as orders
from outbox.reconciliation import (
    Difference,
    Examination,
    events_without_row,
    invariant,
    rows_without_event,
)

Kind = Email.Kind

CALLED_FOR_BY = {
    Kind.ACKNOWLEDGEMENT: ("orders.OrderPlaced", "notifications.acknowledge_order"),
    Kind.PAYMENT: ("payments.PaymentCaptured", "notifications.announce_payment"),
    Kind.READY_TO_SHIP: ("orders.OrderReadyToShip", "notifications.announce_ready_to_ship"),
    Kind.SHIPPING: ("orders.OrderShipped", "notifications.announce_shipping"),
    Kind.CANCELLATION: ("orders.OrderCancelled", "notifications.announce_cancellation"),
    Kind.REFUND: ("payments.PaymentRefunded", "notifications.announce_refund"),
}
CHUNK = 500


@invariant(
    remedy="Send suppressed e-mails again in the admin. Write to the customer by hand if an e-mail "
    "is missing: its delivery is done, so it is not sent again."
)
def handled_events_have_emails(examination: Examination) -> Iterator[Difference]:
    """Each event that was handled with an e-mail has this e-mail, and it was sent.

    A suppressed e-mail also counts, except about a cancellation or a refund.
    """
    settled = Email.objects.filter(Q(sent_at__isnull=False) | ~Q(suppressed_because=""))
    examination.count_rows(settled.count())
    for kind, (name, handler) in CALLED_FOR_BY.items():
        missing = events_without_row(
            name, settled.filter(kind=kind), key="order_id", handled_by=handler, **_fields(kind)
        )
        for event in _of_known_customers(missing):
            facts = {"kind": kind.label, "name": name, "key": event.key}
            text = _("%(name)s of order %(key)s was handled, but no e-mail (%(kind)s) was sent.")
            yield Difference(text % facts, key=event.key, row=event)
    yield from _suppressed_although_essential()


@invariant(remedy="Find out what created the row. If the e-mail is wrong, inform the customer.")
def emails_have_events(examination: Examination) -> Iterator[Difference]:
    """An order has one e-mail of each kind and one for each refund, and each has its event."""
    emails = Email.objects.order_by("pk")
    if examination.horizon:
        emails = emails.filter(order_id__in=orders.placed_since(examination.horizon))
    examination.count_rows(emails.count())
    for kind, (name, _handler) in CALLED_FOR_BY.items():
        of_kind = emails.filter(kind=kind)
        for email in rows_without_event(of_kind, name, key="order_id", **_fields(kind)).iterator():
            facts = {"kind": kind.label, "name": name, "order": email.order_id}
            text = _("Order %(order)s has an e-mail (%(kind)s), but no event %(name)s.")
            yield _about(email, text % facts)
    for email in emails.exclude(Q(kind=Kind.REFUND) | Q(about="")).iterator():
        facts = {"kind": Kind(email.kind).label, "order": email.order_id}
        text = _("Order %(order)s has a second e-mail (%(kind)s).")
        yield _about(email, text % facts)


def _suppressed_although_essential() -> Iterator[Difference]:
    suppressed = Email.objects.filter(kind__in=Email.ESSENTIAL).exclude(suppressed_because="")
    # An e-mail without a recipient was redacted, so it need not be sent.
    for email in suppressed.exclude(recipient="").order_by("pk").iterator():
        why = email.get_suppressed_because_display()
        facts = {"kind": Kind(email.kind).label, "order": email.order_id, "why": why}
        text = _("Order %(order)s has an e-mail (%(kind)s) that was not sent: %(why)s.")
        yield _about(email, text % facts)


def _of_known_customers(events: QuerySet[Any]) -> Iterator[Any]:
    """Leave out orders of forgotten customers: their handlers had no address to write to.

    This also hides an e-mail that was missing before, since its remedy needs the address.
    """
    rows = events.iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        forgotten = orders.forgotten(UUID(event.key) for event in chunk)
        yield from (event for event in chunk if UUID(event.key) not in forgotten)


def _about(email: Email, text: str) -> Difference:
    return Difference(text, key=str(email.order_id), row=email)


def _fields(kind: Kind) -> dict[str, str]:
    return {"refund_id": "about"} if kind == Kind.REFUND else {}
