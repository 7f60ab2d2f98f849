"""Prune events and record the operation. The rules are in `outbox.retention`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from outbox import databases, retention
from outbox.models import Operation

from .progress import recorded


def prune(
    *,
    older_than: timedelta | None = None,
    archive: str | Path | None = None,
    at_most: timedelta | None = None,
    batch: int = retention.BATCH,
    by: str = "unnamed",
    reason: str = "",
    using: str | None = None,
) -> int:
    """Remove old events without owed deliveries by `retention.prune`, and record it.

    After a kill, the next call continues. A run that removes nothing is not recorded, since a
    schedule calls this function.
    """
    using = using or databases.alias()
    choice = {"older_than": "OUTBOX['RETENTION']" if older_than is None else str(older_than)}
    action = Operation.Action.PRUNE
    with recorded(action, choice, by=by, reason=reason, using=using) as operation:
        removed = retention.prune(
            older_than=older_than,
            archive=archive,
            at_most=at_most,
            batch=batch,
            by=by,
            using=using,
        )
        operation.touched += removed
    if not operation.touched:
        operation.delete(using=using)
    return removed
