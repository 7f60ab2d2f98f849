"""Outstanding deliveries of a key, for code that must not decide too early."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.apps import apps
from django.db.models import Exists, OuterRef, Q, QuerySet

from outbox import clock, databases


def is_owed(
    *, key: str, to: Sequence[str] = (), failed: bool = True, using: str | None = None
) -> bool:
    """Return whether an event of `key` is owed: to a handler, or to staff who must decide.

    An event that waits for fan-out counts, since its deliveries are not known yet. This is one
    read in one snapshot: an event that a handler emits counts no later than the handler's receipt.

    Args:
        key: the aggregate's id as text.
        to: app labels; count only deliveries to their handlers. Empty: to all handlers.
        failed: False leaves out failed deliveries that wait for a retry, and dead ones. Due,
            running and parked deliveries always count.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    return owed_events(to=to, failed=failed, using=using).filter(key=key).exists()


def owed_keys(
    keys: Collection[str], *, to: Sequence[str] = (), using: str | None = None
) -> set[str]:
    """Return the keys for which `is_owed` is true, in one read."""
    using = using or databases.alias()
    events = owed_events(to=to, using=using).filter(key__in=keys)
    return set(events.values_list("key", flat=True))


def owed_events(*, to: Sequence[str] = (), failed: bool = True, using: str) -> QuerySet[Any]:
    """Return the events for which `is_owed` is true, of any key."""
    events: QuerySet[Any] = apps.get_model("outbox", "Event").objects.using(using)
    delivery = apps.get_model("outbox", "Delivery")
    owed = delivery.objects.using(using).filter(event=OuterRef("pk"), state__in=delivery.OWED)
    if to:
        owed = owed.filter(_handled_by(to))
    if not failed:
        waits_for_retry = Q(state="pending", attempts__gt=0, due_at__gt=clock.now(using=using))
        owed = owed.exclude(waits_for_retry | Q(state="dead"))
    return events.filter(Q(fanned_out_at=None) | Exists(owed))


def _handled_by(labels: Sequence[str]) -> Q:
    found = Q()
    for label in labels:
        found |= Q(subscription__handler__startswith=f"{label}.")
    return found
