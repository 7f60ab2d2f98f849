"""The result of one delivery of a message, its log line, and the counts of results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.dispatch import Signal

from outbox.counting import counters, minutes
from outbox.deliveries.attempts import Failure
from outbox.formatting import format_time, with_target
from outbox.models import Delivery
from outbox.receipt import LeaseLost
from outbox.subscriptions import Handler

#: Sent after the deliveries of a message have ended: `handler`, `results`, and the range of their
#: `events`. A receiver's exception is logged.
ended = Signal()

#: The worker's log of all its deliveries, successful or not.
logger = logging.getLogger("outbox.delivery")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the failure of a run could not be stored.

    Attributes:
        failure: the exception raised by the attempt to store it.
        leased_until: end of the delivery's lease, after which a relay records a worker death.
    """

    failure: Failure
    leased_until: datetime


@dataclass(frozen=True)
class Result:
    """How one delivery of a message ended.

    Attributes:
        delivery_id: its primary key.
        state: its state afterwards.
        error: the handler's exception, or None.
        failure: description of the exception, without personal data.
        seconds: duration, including storing the result (in a batch: its part of that).
        lag: seconds from the event's emission to this end.
        refusal: why the failure could not be stored, so that the delivery stays started, or None.
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
        """Outcome of the attempt.

        One of done, retry, dead, discarded, parked, lease_lost, not_stored.
        """
        if self.refusal is not None:
            return "not_stored"
        if isinstance(self.error, LeaseLost):
            return "lease_lost"
        return "retry" if self.error and self.state == Delivery.State.PENDING else self.state


def log(handler: Handler, delivery: Delivery, result: Result) -> None:
    """Log a result."""
    event, level = delivery.event, _level(result)
    if not logger.isEnabledFor(level):
        return
    logger.log(
        level,
        "%s %s %s in %.0f ms%s",
        with_target(handler.name, delivery.target),
        event.key,
        result.state if result.refusal is None else "failed",
        result.seconds * 1000,
        _reason(result),
        extra={
            "event": event.name,
            "event_id": str(event.id),
            "handler": handler.name,
            "target": delivery.target,
            "key": event.key,
            "correlation_id": str(event.correlation_id),
            "attempt": delivery.attempts,
            "outcome": result.outcome,
            "state": result.state,
            "seconds": round(result.seconds, 6),
            "tenant": event.tenant or "",
        },
    )


def log_done(handler: Handler, deliveries: Sequence[Delivery], results: Sequence[Result]) -> None:
    """Log the deliveries that one call has done: one line for all of them.

    At the level DEBUG there is a line for each of them instead.
    """
    if len(results) > 1 and not logger.isEnabledFor(logging.DEBUG):
        logger.info(
            "%s %d done in %.0f ms",
            handler.name,
            len(results),
            sum(result.seconds for result in results) * 1000,
            extra=_of_a_call(handler, results),
        )
        return
    for delivery, result in zip(deliveries, results, strict=True):
        log(handler, delivery, result)


def _of_a_call(handler: Handler, results: Sequence[Result]) -> dict[str, object]:
    """Return the fields of the line of a call: those of a delivery that all share, and a number."""
    return {
        "handler": handler.name,
        "deliveries": len(results),
        "outcome": results[0].outcome,
        "state": results[0].state,
        "seconds": round(sum(result.seconds for result in results), 6),
    }


def announce(handler: Handler, results: Sequence[Result]) -> None:
    """Count the results of a message for charts and metrics, and send `ended`."""
    name = handler.name
    minutes.note(name, results)
    if counters.are_on():
        for part, number in Counter(result.outcome for result in results).items():
            counters.count("attempts", name, part, number=number)
        seconds = [result.seconds for result in results]
        counters.observe_each("attempt", seconds, name, bounds=counters.RUN_BOUNDS)
        lags = [result.lag for result in results if result.error is None]
        counters.observe_each("delivery", lags, name, bounds=counters.WAIT_BOUNDS)
    ended.send_robust(None, handler=handler, results=results)


def _level(result: Result) -> int:
    if result.refusal is not None:
        return logging.ERROR
    return logging.INFO if result.error is None else logging.WARNING


def _reason(result: Result) -> str:
    """Return the part of the log line about the failure and the delivery's next step."""
    failure, refusal = result.failure, result.refusal
    text = f": {failure.exception}: {failure.message}" if failure else ""
    if refusal is not None:
        why = f"{refusal.failure.exception}: {refusal.failure.message}"
        text += (
            f". The failure could not be stored ({why}), so delivery {result.delivery_id} stays "
            f"started. Its lease expires at {format_time(refusal.leased_until)}. Then a relay "
            "records that its worker died, which uses up an attempt, and schedules a retry. It is "
            'dead after the last attempt or OUTBOX["MAX_WORKER_CRASHES"] deaths.'
            f"\n{refusal.failure.traceback}"
        )
    return text
