"""Redact events and record the operation. The rules are in `outbox.privacy.redaction`."""

from __future__ import annotations

from collections.abc import Collection

from outbox import databases
from outbox.models import Operation
from outbox.privacy import redaction
from outbox.privacy.redaction import Redaction

from .progress import recorded


def redact(
    *,
    subject: str = "",
    keys: Collection[str] = (),
    by: str,
    reason: str,
    force: bool = False,
    using: str | None = None,
) -> Redaction:
    """Blank a person's data by `redaction.redact`, and record subject, keys, actor and reason."""
    using = using or databases.alias()
    choice = {"subject": subject, "keys": sorted(keys), "force": force}
    action = Operation.Action.REDACT
    with recorded(action, choice, by=by, reason=reason, using=using) as operation:
        done = redaction.redact(
            subject=subject, keys=keys, by=by, reason=reason, force=force, using=using
        )
        operation.touched += done.blanked
    return done
