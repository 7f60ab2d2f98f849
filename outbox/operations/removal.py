"""Prune or redact events and record the operation.

The rules are in `outbox.retention` and `outbox.privacy.redaction`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from outbox import databases, retention
from outbox.models import Operation
from outbox.privacy import redaction
from outbox.privacy.redaction import Redaction

from .progress import GivenUp, heartbeat, recorded


def prune(
    *,
    older_than: timedelta | None = None,
    archive: str | Path | None = None,
    at_most: timedelta | None = None,
    batch: int | None = None,
    by: str = "unnamed",
    reason: str = "",
    raise_given_up: bool = False,
    using: str | None = None,
) -> int:
    """Remove old events without owed deliveries by `retention.prune`, and record it.

    After a kill, the next call continues. One that is given up ends early, and returns the number
    until then. A run that removes nothing is not recorded, since a schedule calls this function.

    Raises:
        outbox.operations.GivenUp: a person has given it up, and `raise_given_up` is set. `touched`
            of its operation is the number of events that were removed.
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
            after_batch=heartbeat(operation, using=using),
            by=by,
            using=using,
        )
        operation.touched += removed
    if raise_given_up and operation.state == Operation.State.GIVEN_UP:
        raise GivenUp(operation)
    if not operation.touched:  # nor has another process that continued it
        finished = Operation.objects.using(using).filter(state=Operation.State.FINISHED)
        finished.filter(pk=operation.pk, touched=0).delete()
    return removed


def redact(
    *,
    subject: str = "",
    keys: Collection[str] = (),
    by: str,
    reason: str,
    force: bool = False,
    using: str | None = None,
) -> Redaction:
    """Blank a person's data by `redaction.redact`, and record subject, keys, actor and reason.

    Raises:
        outbox.operations.GivenUp: a person has given it up. The other apps were not notified.
    """
    using = using or databases.alias()
    choice = {"subject": subject, "keys": sorted(keys), "force": force}
    action = Operation.Action.REDACT
    with recorded(action, choice, by=by, reason=reason, using=using) as operation:
        before, beat = operation.touched, heartbeat(operation, using=using)

        def after_slice(so_far: Redaction) -> None:
            operation.touched = before + so_far.blanked
            beat()

        done = redaction.redact(
            subject=subject,
            keys=keys,
            by=by,
            reason=reason,
            force=force,
            after_slice=after_slice,
            using=using,
        )
    return done
