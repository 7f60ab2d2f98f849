"""The interface between relay and workers. A transport decides nothing about retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from outbox.models import Delivery

#: The queue whose workers run the relay.
QUEUE = "outbox"
#: The exchange of the broker that carries nudges to the relays.
NUDGES = "outbox.nudge"


class QueueUnavailable(Exception):
    """The broker takes no message for one queue, although it takes others.

    Args:
        text: the queue, the cause and the next step.
        cause: the cause alone, for pages that name the queue and the next step. Default: the text.
    """

    def __init__(self, text: str = "", *, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause or text


@dataclass(frozen=True)
class Message:
    """Deliveries of one subscription, by id and token only.

    Attributes:
        handler: pinned name.
        queue: the handler's queue.
        subscription: id of the subscription.
        pairs: (delivery id, token) of each delivery.
        refill: more wait in the database, so the worker nudges the relay after the message.
        database: alias of the database of the deliveries; "" without `OUTBOX["DATABASES"]`. Ids of
            deliveries and subscriptions mean other rows in another database.
    """

    handler: str
    queue: str
    subscription: int
    pairs: tuple[tuple[int, int], ...]
    refill: bool = False
    database: str = ""


class Transport(Protocol):
    """Carries messages from the relay to workers, and nudges from any process to the relays."""

    def dispatch(self, message: Message) -> None:
        """Send a message, without a retry. Any exception means that it was not taken."""

    def nudge(self) -> None:
        """Nudge all running relays. It may wait for the broker, and raise any exception."""

    def is_available(self) -> bool:
        """Return whether it takes messages now. Never raises."""


class Intake(Protocol):
    """Limits what a relay claims to what its own process can start soon.

    Without it, a relay claims for the workers of all queues, within each handler's window.
    """

    def serves(self, queue: str) -> bool:
        """Return whether it takes messages of this queue."""

    def free(self) -> int:
        """Return the number of messages that it takes now."""

    def note_run_out(self) -> None:
        """Note that a pass has used all of them, so that more deliveries may be due."""


class StartingTransport(Protocol):
    """A transport whose deliveries the claim also stores as started, which saves a commit.

    Attributes:
        worker: the name that the start stores.
        started: the delivery that a pass has started. If the pass raised, it may not be stored.
    """

    worker: str
    started: Delivery | None

    def accepts(self, handler: str) -> bool:
        """Return whether it runs a delivery of the handler with this pinned name now."""

    def accept(self, delivery: Delivery, *, refill: bool) -> None:
        """Take a started delivery, before its commit. With `refill`, others wait for its slot."""


class Relay(Protocol):
    """A running relay, as a transport's process starts, nudges and stops it."""

    def start(self) -> None:
        """Start relaying, in threads."""

    def nudge(self) -> None:
        """Run a pass now."""

    def stop(self) -> None:
        """End after the current pass."""


class Helper(Protocol):
    """A thread beside the relay, as a transport's process starts and stops it."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it without waiting."""
