"""How a delivery of a message ended: what is said, counted and logged of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from outbox.counting import counters
from outbox.models import Delivery
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler

from .attempts import Failure

#: Its lines are the worker's record of what it delivered, whichever way that went.
logger = logging.getLogger("outbox.delivery")


@dataclass(frozen=True)
class Result:
    """How one delivery of a message ended.

    Attributes:
        delivery_id: its number.
        state: its state afterwards.
        error: what the handler raised, if anything.
        failure: how that is described: without personal data.
        seconds: how long it ran, the record of how it ended included (in a batch: its part of it).
        lag: seconds from the event's commit to this end.
    """

    delivery_id: int
    state: str
    error: BaseException | None = None
    failure: Failure | None = None
    seconds: float = 0.0
    lag: float = 0.0

    @property
    def outcome(self) -> str:
        """How the attempt ended, in one word: done, retry, dead, discarded, ..., or lease_lost."""
        if isinstance(self.error, LeaseLost):
            return "lease_lost"
        return "retry" if self.error and self.state == Delivery.State.PENDING else self.state


def tell(handler: Handler, delivery: Delivery, result: Result) -> None:
    """Log a result, and count it."""
    if logger.isEnabledFor(logging.WARNING if result.error else logging.INFO):
        _log(handler, delivery, result)
    if counters.are_on():
        _count(handler, result)


def _count(handler: Handler, result: Result) -> None:
    name = handler.name
    counters.count("attempts", name, result.outcome)
    counters.observe("attempt", result.seconds, name, bounds=counters.RUN_BOUNDS)
    if result.error is None:
        counters.observe("delivery", result.lag, name, bounds=counters.WAIT_BOUNDS)


def _log(handler: Handler, delivery: Delivery, result: Result) -> None:
    event, failure = delivery.event, result.failure
    logger.log(
        logging.WARNING if failure else logging.INFO,
        "%s %s %s in %.0f ms%s",
        handler.name,
        event.key,
        result.state,
        result.seconds * 1000,
        f": {failure.exception}: {failure.message}" if failure else "",
        extra={
            "event": event.name,
            "event_id": str(event.id),
            "handler": handler.name,
            "key": event.key,
            "correlation_id": str(event.correlation_id),
            "attempt": delivery.attempts,
            "outcome": result.outcome,
            "state": result.state,
            "seconds": round(result.seconds, 6),
        },
    )
