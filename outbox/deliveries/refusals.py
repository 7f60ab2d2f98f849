"""The queues of the broker that take no message from a process, in a heartbeat of their own.

A process has such a row only while a queue is refused. So the row is as fresh as the refusal, and
a process of the same name that starts later shows nothing of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from datetime import datetime

from django.db import transaction

from outbox import clock
from outbox.models import Heartbeat

from .statements import bound_transaction

_SENDER = Heartbeat.Kind.SENDER
#: PostgreSQL ends a transaction whose process is silent for so long: it holds a row.
_IDLE_SECONDS = 10.0

#: By queue: the cause, and the times of the first and of the latest refusal in ISO 8601.
Refused = Mapping[str, Mapping[str, str]]


def update(made: Callable[[Set[str]], Refused], *, name: str, using: str) -> None:
    """Store what is refused to this process now. Delete its row if that is nothing.

    Args:
        made: returns what is refused, from the queues that the row has: another process may have
            removed some. No process removes one until the new row is stored.
        name: unique name of the process.
        using: the outbox's database alias.
    """
    rows = Heartbeat.objects.using(using)
    own = rows.filter(kind=_SENDER, name=name)
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        stored = {queue for row in own.select_for_update() for queue in row.refused or ()}
        if not (refused := made(stored)):
            own.delete()
            return
        now = clock.now(using=using)
        values = {"refused": refused, "seen_at": now, "started_at": now}
        rows.bulk_create(
            [Heartbeat(kind=_SENDER, name=name, **values)],
            update_conflicts=True,
            unique_fields=["kind", "name"],
            update_fields=["refused", "seen_at"],
        )


def of_others(own: str, *, using: str) -> dict[str, datetime]:
    """Return the queues that take no message from other processes.

    The time is that of the latest refusal; of several processes, the earliest of these.

    Args:
        own: unique name of this process.
        using: the outbox's database alias.
    """
    found: dict[str, datetime] = {}
    for row in Heartbeat.objects.using(using).filter(kind=_SENDER).exclude(name=own):
        for queue, latest in _latest(row):
            found[queue] = min(latest, found.get(queue, latest))
    return found


def end(accepted: Mapping[str, datetime], quiet: datetime, *, own: str, using: str) -> Set[str]:
    """Remove queues from the rows of other processes; wait for none that uses its row now.

    Args:
        accepted: when the queues have taken a message. Later refusals stay.
        quiet: refusals after this time stay for now.
        own: unique name of this process.
        using: the outbox's database alias.

    Returns:
        The queues that are to be removed later.
    """
    rows = Heartbeat.objects.using(using).filter(kind=_SENDER).exclude(name=own).order_by("pk")
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        for row in rows.select_for_update(skip_locked=True):
            ended = {one for one, at in _latest(row) if one in accepted and at < accepted[one]}
            ended -= {one for one, at in _latest(row) if at > quiet}
            if ended:
                refused: dict[str, object] = row.refused or {}
                row.refused = {one: of for one, of in refused.items() if one not in ended}
                row.save(using=using, update_fields=["refused"])
    left = [(one, at) for row in rows.all() for one, at in _latest(row)]
    return {one for one, at in left if one in accepted and at < accepted[one]}


def _latest(row: Heartbeat) -> Iterator[tuple[str, datetime]]:
    for queue, one in (row.refused or {}).items():
        yield queue, datetime.fromisoformat(one["latest"])
