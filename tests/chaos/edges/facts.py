"""The state after a run: what was emitted and sent, what is stored, and what has arrived."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.edges.arrivals import Arrival
from tests.chaos.edges.names import OVERLOADED, SAILED, SOURCES
from tests.chaos.edges.sending import Sent

if TYPE_CHECKING:
    from tests.chaos.edges.world import EdgeWorld

UNREADABLE = "outbox.UnreadableMessageReceived"
UNKNOWN = "outbox.UnknownMessageReceived"

EVENTS = "SELECT id, name, payload FROM outbox_event ORDER BY seq"
OWED = """
SELECT s.handler, d.state, e.name, count(*) FROM outbox_delivery d
JOIN outbox_subscription s ON s.id = d.subscription_id JOIN outbox_event e ON e.seq = d.event_id
WHERE d.state NOT IN ('done', 'dead', 'discarded') GROUP BY s.handler, d.state, e.name
"""
DEAD = """
SELECT s.handler, e.id FROM outbox_delivery d
JOIN outbox_subscription s ON s.id = d.subscription_id JOIN outbox_event e ON e.seq = d.event_id
WHERE d.state = 'dead'
"""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A row of `outbox_event`. `fields` is its payload; the id has 32 hexadecimal digits."""

    id: str
    name: str
    fields: dict[str, Any]


@dataclass(kw_only=True)
class Facts:
    """Rows as they were read.

    Attributes:
        sailed: number of events of each ship, as the emitter's transactions counted them.
        events: all events, in the order of `seq`.
        unsettled: a line per handler and state of deliveries that are still owed.
        dead: (handler, event id) of each dead delivery.
        berths: ids of the messages that the handler has recorded, one per committed run.
        sent: what other systems sent to the sources.
        arrivals: by sink, sequences of what its system has stored.
        limited: sinks that an overloaded ship is too large for.
        unordered: sinks whose system promises no order.
    """

    sailed: dict[str, int] = field(default_factory=dict)
    events: list[Stored] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)
    berths: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    arrivals: dict[str, list[list[Arrival]]] = field(default_factory=dict)
    limited: set[str] = field(default_factory=set)
    unordered: set[str] = field(default_factory=set)

    def named(self, *names: str) -> list[Stored]:
        """Return the events of these names."""
        return [event for event in self.events if event.name in names]

    @property
    def published(self) -> list[Stored]:
        """The events that each sink has to publish."""
        return self.named(SAILED, OVERLOADED)

    @property
    def received(self) -> list[Stored]:
        """The events that messages became, in the order of `seq`."""
        return self.named(*(f"{source}.ShipBerthed" for source in SOURCES))


def read_facts(world: EdgeWorld, sent: Iterable[Sent]) -> Facts:
    """Read the state of the databases and systems. Nothing changes it any more."""
    query = world.stack.query
    arrivals: dict[str, list[list[Arrival]]] = {}
    for system in world.systems:
        arrivals |= system.arrivals()
    return Facts(
        sailed=dict(query("SELECT name, sailed FROM harbour_ship")),
        events=[_stored(*row) for row in query(EVENTS)],
        unsettled=[" ".join(map(str, row)) for row in query(OWED)],
        dead=[(handler, _hex(id)) for handler, id in query(DEAD)],
        berths=[message for (message,) in query("SELECT message FROM harbour_berth")],
        sent=list(sent),
        arrivals=arrivals,
        limited={name for system in world.systems for name in system.limited},
        unordered={name for system in world.systems for name in system.unordered},
    )


def _hex(value: Any) -> str:
    return str(value).replace("-", "")


def _stored(id: Any, name: str, payload: Any) -> Stored:
    fields = json.loads(payload) if isinstance(payload, str) else payload  # by the database
    return Stored(id=_hex(id), name=name, fields=fields)
