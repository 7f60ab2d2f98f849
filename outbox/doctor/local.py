"""Findings about processes of `manage.py outbox work`: which queues they serve, and how they wake.

No canary is needed: the process that claims a delivery also runs it. So its heartbeat and the age
of the owed deliveries show whether it works.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from django.db import connections
from django.utils.translation import gettext as _

from outbox.conf import conf
from outbox.deliveries.heartbeat import stale_after
from outbox.formatting import span
from outbox.models import Heartbeat, Subscription
from outbox.monitor.health import Heartbeats
from outbox.monitor.unserved import idle_queues
from outbox.subscriptions import queues as queues_of_code
from outbox.transports import names, notifications
from outbox.transports.base import QUEUE

from .findings import Finding, error, ok, warning
from .processes import without_need

_WAKE_UP = "wake-up"


def examine_queues(wanted: Collection[str] | None, *, using: str) -> Iterator[Finding]:
    """Examine whether a running process serves each queue; nothing where Celery's workers may.

    Args:
        wanted: names of queues; None: those of all handlers.
        using: the outbox's database alias.
    """
    if names.uses(names.CELERY):  # its canaries show which queues are consumed
        return
    known, found = handlers_queues(using=using), Heartbeats(using=using)
    # The relay's own queue has no messages here. The part "relay" examines it.
    relays = {QUEUE} - known
    examined = set(known if wanted is None else wanted) - relays
    # A probe asks for a process of each queue, even if no delivery waits for one.
    idle = idle_queues(examined, found.workers, using=using) if wanted is None else set()
    for queue in sorted(examined):
        yield without_need(queue) if queue in idle else _queue(queue, found)


def handlers_queues(*, using: str) -> set[str]:
    """Return the queues of all handlers, of the code and of the database."""
    rows = Subscription.objects.using(using).filter(active=True)
    return {*rows.values_list("queue", flat=True)}.union(*queues_of_code().values())


def _queue(queue: str, found: Heartbeats) -> Finding:
    part = f"queue {queue}"
    number = found.workers(queue)
    if number:
        return ok(
            part,
            _("Processes of outbox work that serve it, seen within %(span)s: %(number)s.")
            % {"span": span(stale_after()), "number": number},
        )
    age = found.latest(Heartbeat.Kind.WORKER, queue=queue).age(found.now)
    text = _("No process serves it.")
    if age:
        text = _("The last process that served it was seen %(age)s ago.") % {"age": age}
    step = _("Start manage.py outbox work, or one with --queue %(queue)s.") % {"queue": queue}
    return error(part, text, _("%(step)s Its deliveries wait in the database.") % {"step": step})


def examine_wake_up(*, using: str) -> Iterator[Finding]:
    """Examine whether a commit wakes the processes at once, or whether they poll."""
    if not names.uses(names.LOCAL):
        return
    connection = connections[using]
    if connection.vendor == "sqlite":
        yield ok(_WAKE_UP, _("Processes see the commits of others in the database file."))
    elif not notifications.is_possible(using):
        yield warning(
            _WAKE_UP,
            _("Processes poll every %(poll_seconds)s s: psycopg 3 is not in use.")
            % {"poll_seconds": f"{conf().POLL_SECONDS:g}"},
            _("Install psycopg 3, so that a commit wakes them (LISTEN and NOTIFY)."),
        )
    elif not notifications.can_listen(using):
        yield warning(
            _WAKE_UP,
            _(
                "Processes poll every %(poll_seconds)s s: the database passes on "
                "no notification, as behind a pooler in transaction mode."
            )
            % {"poll_seconds": f"{conf().POLL_SECONDS:g}"},
            _(
                "Connect processes of outbox work to PostgreSQL itself or through "
                'a pooler in session mode, or lower OUTBOX["POLL_SECONDS"].'
            ),
        )
    else:
        yield ok(_WAKE_UP, _("A commit wakes the processes (LISTEN and NOTIFY)."))
