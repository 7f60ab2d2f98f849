"""How a delivery of a message ended: what is said, counted and logged of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from outbox.counting import counters
from outbox.deliveries.attempts import Failure
from outbox.formatting import format_time
from outbox.models import Delivery
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler

#: Its lines are the worker's record of what it delivered, whichever way that went.
logger = logging.getLogger("outbox.delivery")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the failure of a run could not be stored.

    Attributes:
        failure: what storing it raised.
        leased_until: when the delivery's lease expires, after which a relay judges it.
    """

    failure: Failure
    leased_until: datetime


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
        refusal: why the failure could not be stored, so that the delivery stays started; else None.
    """

    delivery_id: int
    state: str
    error: BaseException | None = None
    failure: Failure | None = None
    seconds: float = 0.0
    lag: float = 0.0
    refusal: Refusal | None = None

    @property
    def outcome(self) -> str:
        """How the attempt ended, in one word.

        It is done, retry, dead, discarded, parked, lease_lost or not_stored.
        """
        if self.refusal is not None:
            return "not_stored"
        if isinstance(self.error, LeaseLost):
            return "lease_lost"
        return "retry" if self.error and self.state == Delivery.State.PENDING else self.state


def tell(handler: Handler, delivery: Delivery, result: Result) -> None:
    """Log a result, and count it."""
    if logger.isEnabledFor(_level(result)):
        _log(handler, delivery, result)
    if counters.are_on():
        _count(handler, result)


def _count(handler: Handler, result: Result) -> None:
    name = handler.name
    counters.count("attempts", name, result.outcome)
    counters.observe("attempt", result.seconds, name, bounds=counters.RUN_BOUNDS)
    if result.error is None:
        counters.observe("delivery", result.lag, name, bounds=counters.WAIT_BOUNDS)


def _level(result: Result) -> int:
    if result.refusal is not None:
        return logging.ERROR
    return logging.INFO if result.error is None else logging.WARNING


def _reason(result: Result) -> str:
    """Return what the line adds about a failure: what it was, and what happens to its delivery."""
    failure, refusal = result.failure, result.refusal
    text = f": {failure.exception}: {failure.message}" if failure else ""
    if refusal is not None:
        why = f"{refusal.failure.exception}: {refusal.failure.message}"
        text += (
            f". The failure could not be stored ({why}), so delivery {result.delivery_id} stays "
            f"started. Its lease expires at {format_time(refusal.leased_until)}. Then a relay "
            "records that its worker died, which uses up an attempt, and has it tried again; it is "
            'dead after the last attempt or OUTBOX["MAX_WORKER_CRASHES"] deaths.'
            f"\n{refusal.failure.traceback}"
        )
    return text


def _log(handler: Handler, delivery: Delivery, result: Result) -> None:
    event = delivery.event
    logger.log(
        _level(result),
        "%s %s %s in %.0f ms%s",
        handler.name,
        event.key,
        result.state if result.refusal is None else "failed",
        result.seconds * 1000,
        _reason(result),
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
