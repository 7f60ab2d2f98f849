"""Whether anything is still owed about a key, for code that must not decide too early."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import apps
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone


def is_owed(
    *, key: str, to: Sequence[str] = (), failed: bool = True, using: str = "default"
) -> bool:
    """Tell whether a handler still has to see an event about `key`, or a person to decide.

    An event that waits for fan-out counts, since nobody knows yet who is owed it. One read at one
    moment: an event that a handler has just emitted counts no later than its receipt.

    Args:
        key: the aggregate's id as text.
        to: app labels; only what their handlers are owed. Empty: everybody's.
        failed: False leaves out what a handler tried and failed at, while it waits for its next
            attempt or, dead, for a person. What is due, in hand or parked counts in any case.
        using: the outbox's database alias.
    """
    events = apps.get_model("outbox", "Event").objects.using(using).filter(key=key)
    delivery = apps.get_model("outbox", "Delivery")
    owed = delivery.objects.using(using).filter(event=OuterRef("pk"), state__in=delivery.OWED)
    if to:
        owed = owed.filter(_handled_by(to))
    if not failed:
        waits_for_retry = Q(state="pending", attempts__gt=0, due_at__gt=timezone.now())
        owed = owed.exclude(waits_for_retry | Q(state="dead"))
    return bool(events.filter(Q(fanned_out_at=None) | Exists(owed)).exists())


def _handled_by(labels: Sequence[str]) -> Q:
    found = Q()
    for label in labels:
        found |= Q(subscription__handler__startswith=f"{label}.")
    return found
