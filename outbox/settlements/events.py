"""The event by which a system reports that it has settled an event of another system."""

from __future__ import annotations

from outbox.events import DomainEvent

#: The CloudEvents `type` of a report.
SETTLED_TYPE = "outbox.Settled.v1"
#: Width of the column of an event's key.
LONGEST_ID = 100


class Settled(DomainEvent, key="event"):
    """Every delivery of an event that a source received is done or discarded.

    A sink whose `EVENTS` name `outbox.Settled` publishes it, as a CloudEvent of the type
    `outbox.Settled.v1`. Any system may send such a message, with a library for CloudEvents.

    Attributes:
        event: the CloudEvent's id in the system that sent it, without the number of a replay.
        consumer: name of the system that has settled it, `SETTLES_AS` of its source.
    """

    event_facts = frozenset({"event"})

    event: str
    consumer: str
