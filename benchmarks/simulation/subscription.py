"""The relay's view of a handler: which of its deliveries a pass may send, and in which messages.

The numbers of free slots and of whole messages come from `outbox.deliveries.decisions`. The growth
of windows and the requests for more are written here again, as `outbox.relay.dispatch` has them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from outbox.deliveries.decisions import free_slots, whole_messages

from .workload import Handler

# As in outbox.conf.
FIRST_WINDOW, WINDOW, FIRST_BATCH, BATCH = 500, 2000, 50, 200


@dataclass
class Order:
    """An order's number of calls by handler that joins branches."""

    placed: float
    joins: dict[str, int] = field(default_factory=dict)


@dataclass
class Event:
    """An event that was emitted at a time."""

    name: str
    at: float
    order: Order


@dataclass
class Message:
    """Events that a worker handles in turn; with `refill`, it nudges the relay afterwards."""

    subscription: Subscription
    events: list[Event]
    refill: bool


class Subscription:
    """The state of a handler in the relay: its backlog, its window, its deliveries in flight."""

    def __init__(self, handler: Handler) -> None:
        # A handler that waits for another system is not atomic, so a message has one delivery.
        self.handler = handler
        self.backlog = deque[Event]()
        self.in_flight = 0
        self.window, self.batch = FIRST_WINDOW, 1 if handler.wait else FIRST_BATCH
        self.widened = 0.0

    def take(self, now: float) -> list[Message]:
        """Return the messages that a pass may send, and count them as in flight."""
        if len(self.backlog) > self.window and now - self.widened >= 1:
            self.window, self.widened = min(self.window * 2, WINDOW), now
            self.batch = 1 if self.handler.wait else min(self.batch * 2, BATCH)
        free = free_slots(window=self.window, in_flight=self.in_flight, batch=self.batch)
        number = min(free, len(self.backlog))
        number = whole_messages(number, in_flight=self.in_flight, batch=self.batch)
        taken = [self.backlog.popleft() for _ in range(number)]
        self.in_flight += number
        parts = [taken[at : at + self.batch] for at in range(0, number, self.batch)]
        # As in outbox.relay.dispatch: others may wait, and one in so many messages asks for them.
        may_more_wait = self.in_flight >= min(self.batch, self.window)
        per_refill = max(1, self.window // 4 // self.batch)
        return [
            Message(self, part, refill=may_more_wait and left % per_refill == 0)
            for left, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True)
        ]
