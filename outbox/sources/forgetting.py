"""Delete the ids of received messages by age: `DEDUPLICATION_DAYS` of their source."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured

from outbox import clock, databases
from outbox.models import Received, SettlementReport

from .configuration import configured

#: Rows in one transaction.
_BATCH = 500


def forget_received(*, at_most: timedelta, using: str | None = None) -> int:
    """Delete old ids, the oldest first; return how many. The next run continues.

    Ids of a source that is no longer configured are kept. An id that comes again after its row was
    deleted is stored as a new event.

    Args:
        at_most: the longest duration.
        using: the outbox's database alias.
    """
    using, deleted = using or databases.alias(), 0
    until, now = time.monotonic() + at_most.total_seconds(), clock.now(using=using)
    try:
        sources = configured()
    except ImproperlyConfigured:  # a system check reports it
        return 0
    for name, source in sources.items():
        before = now - timedelta(days=source.deduplication_days)
        rows = Received.objects.using(using).filter(source=name)
        while time.monotonic() < until:
            # By id, which follows the time. So no index on the time is needed.
            oldest = rows.order_by("id").values_list("id", "external_id", "received_at")[:_BATCH]
            old = {id: external_id for id, external_id, at in oldest if at < before}
            if old:
                _forget_reports(name, old.values(), using=using)
                deleted += rows.filter(id__in=list(old)).delete()[0]
            if len(old) < _BATCH:
                break
    return deleted


def _forget_reports(source: str, ids: Iterable[str], *, using: str) -> None:
    """Delete the reports that were emitted. A message that is received again is a new one.

    Retention deletes the other ones with their event.
    """
    reports = SettlementReport.objects.using(using).filter(source=source, external_id__in=list(ids))
    reports.filter(reported_at__isnull=False).delete()
