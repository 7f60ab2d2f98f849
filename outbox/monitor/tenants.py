"""The tenants of stored events."""

from __future__ import annotations

from outbox.deliveries.statements import read
from outbox.models import DelayedEvent, Event

#: Most tenants that a list of them has.
MOST = 50


def known(*, using: str) -> list[str]:
    """Return the tenants of events in alphabetical order, at most `MOST`.

    Cost: a probe of the index of tenants for each one.
    """
    return [tenant for (tenant,) in read(f"{_KNOWN} LIMIT %s", MOST, using=using)]


def all_known(*, using: str) -> list[str]:
    """Return the tenants of events and of delayed events in alphabetical order.

    Cost: as `known`, and a read of all delayed events.
    """
    delayed = DelayedEvent.objects.using(using).exclude(tenant=None)
    of_delayed = delayed.values_list("tenant", flat=True).distinct()
    of_events = (tenant for (tenant,) in read(_KNOWN, using=using))
    return sorted({*of_events, *(tenant for tenant in of_delayed if tenant)})


def has_events(tenant: str, *, using: str) -> bool:
    """Return whether an event of this tenant is stored."""
    return Event.objects.using(using).filter(tenant=tenant).exists()


_KNOWN = """
WITH RECURSIVE found(tenant) AS (
    SELECT min(tenant) FROM outbox_event WHERE tenant IS NOT NULL
    UNION ALL
    SELECT (SELECT min(e.tenant) FROM outbox_event e WHERE e.tenant > found.tenant)
    FROM found WHERE found.tenant IS NOT NULL
)
SELECT tenant FROM found WHERE tenant IS NOT NULL"""
