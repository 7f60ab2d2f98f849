"""Queues that take no message from some running process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from outbox.formatting import listing, span
from outbox.models import Heartbeat
from outbox.transports.base import NUDGES

#: Most processes that a text names.
_MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class RefusedQueue:
    """A queue of the broker that takes no message.

    Attributes:
        queue: its name; for nudges, that of their exchange.
        cause: why it took no message of the process that noticed it last.
        since: time of the first refusal.
        processes: names of the processes whose messages it refuses, "host.pid".
    """

    queue: str
    cause: str
    since: datetime
    processes: tuple[str, ...]

    @property
    def next_step(self) -> str:
        """The next step, in the active language."""
        if self.queue == NUDGES:
            text = _(
                "Run `rabbitmqctl list_queues name state`, and restart the relay whose queue "
                "%(queue)s.* does not run. Give RabbitMQ's user the permission, if it has none. "
                "Until then relays poll."
            )
        else:
            text = _(
                "Run `rabbitmq-queues quorum_status %(queue)s`, and start the nodes of its "
                "members. Or compare its arguments and the permissions of RabbitMQ's user with the "
                "settings, if the cause names them. Its deliveries wait in the database. If the "
                "queue was deleted, restart the processes."
            )
        return text % {"queue": self.queue}

    def age(self, now: datetime) -> str:
        """Return in words how long it has refused messages."""
        return span(max(now, self.since) - self.since)

    def in_words(self, now: datetime, *, has_cause: bool = True) -> str:
        """Return how long it has refused messages, of which processes, and perhaps why."""
        names = listing(self.processes[:_MOST_NAMES])
        if len(self.processes) > _MOST_NAMES:
            names = _("%(names)s and others") % {"names": names}
        text = _("has taken no message from %(names)s for %(age)s: %(cause)s")
        if not has_cause:
            text = _("has taken no message from %(names)s for %(age)s")
        return text % {"names": names, "age": self.age(now), "cause": self.cause}


def refused_queues(rows: Iterable[Heartbeat]) -> list[RefusedQueue]:
    """Return the queues in rows of senders, by name.

    Args:
        rows: the rows of processes that run, the latest first.
    """
    found: dict[str, list[tuple[str, str, datetime]]] = {}
    for row in rows:
        name = row.name.partition("/")[0]  # without the part that makes it unique
        for queue, one in (row.refused or {}).items():
            since = datetime.fromisoformat(one["since"])
            found.setdefault(queue, []).append((name, one["cause"], since))
    return [
        RefusedQueue(
            queue=queue,
            cause=mine[0][1],
            since=min(since for _name, _cause, since in mine),
            processes=tuple(sorted(name for name, _cause, _since in mine)),
        )
        for queue, mine in sorted(found.items())
    ]
