"""The event by which a system reports that it has settled an event of another system."""

from __future__ import annotations

from django.utils.translation import gettext as _
from pydantic import Field

from outbox.events import DomainEvent

#: The CloudEvents `type` of a report.
SETTLED_TYPE = "outbox.Settled.v1"
#: Width of the column of an event's key.
LONGEST_ID = 100


class Settled(DomainEvent, key="event"):
    """Every delivery of an event that a source received is done or discarded."""

    event_facts = frozenset({"event"})

    event: str = Field(description="Id of the CloudEvent that was settled, in its own system.")
    consumer: str = Field(description="Name of the system that has settled it.")

    def in_words(self) -> str:
        """Name the consumer."""
        return _("Settlement reported by %s") % self.consumer
