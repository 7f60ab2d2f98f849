"""The queues of the broker that take no message of a process, in a heartbeat of their own.

A process has such a row only while a queue is refused. So the row is as fresh as the refusal, and
a process of the same name that starts later shows nothing of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from django.db import transaction

from outbox import clock
from outbox.models import Heartbeat

from .heartbeat import own_name

_SENDER = Heartbeat.Kind.SENDER

#: By queue: the cause, and the time of the first refusal in ISO 8601.
Refused = Mapping[str, Mapping[str, str]]


def update(made: Callable[[Set[str]], Refused], *, using: str) -> None:
    """Store what is refused to this process now. Delete its row if that is nothing.

    Args:
        made: returns what is refused, from the queues that the row has: another process may have
            removed some. No process removes one until the new row is stored.
        using: the outbox's database alias.
    """
    rows = Heartbeat.objects.using(using)
    own = rows.filter(kind=_SENDER, name=own_name())
    with transaction.atomic(using=using):
        stored = {queue for row in own.select_for_update() for queue in row.refused or ()}
        if not (refused := made(stored)):
            own.delete()
            return
        now = clock.now(using=using)
        values = {"refused": refused, "seen_at": now, "started_at": now}
        rows.bulk_create(
            [Heartbeat(kind=_SENDER, name=own_name(), **values)],
            update_conflicts=True,
            unique_fields=["kind", "name"],
            update_fields=["refused", "seen_at"],
        )


def all_queues(*, using: str) -> Set[str]:
    """Return the queues that take no message of some process."""
    rows = Heartbeat.objects.using(using).filter(kind=_SENDER)
    return {queue for row in rows for queue in row.refused or ()}


def end(queue: str, *, using: str) -> None:
    """Remove a queue, which has taken a message, from the rows of all processes."""
    rows = Heartbeat.objects.using(using).filter(kind=_SENDER).order_by("pk")
    with transaction.atomic(using=using):
        for row in rows.select_for_update():
            refused: dict[str, object] = row.refused or {}
            if refused.pop(queue, None) is not None:
                row.refused = refused
                row.save(using=using, update_fields=["refused"])
