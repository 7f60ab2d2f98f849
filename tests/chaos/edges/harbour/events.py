from __future__ import annotations

from outbox import DomainEvent
from outbox.sources import ExternalEvent
from tests.chaos.edges.names import BERTHED, SOURCES


class ShipSailed(DomainEvent, key="ship"):
    """The command `sail` emitted an event of a ship, which counts its events."""

    ship: str
    number: int


class ShipOverloaded(DomainEvent, key="ship"):
    """This event is too large for some systems."""

    ship: str
    ballast: str


def _berthed(source: str) -> type[ExternalEvent]:
    class ShipBerthed(ExternalEvent, source=source, type=BERTHED, key="ship"):
        """Another system reported a ship. `number` counts its messages about this ship."""

        ship: str
        number: int
        message: str

    return ShipBerthed


BERTHED_EVENTS = [_berthed(source) for source in SOURCES]
