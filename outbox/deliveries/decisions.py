"""Decisions of relay and settlement as pure functions: no rows, clock, broker or randomness.

The relay and the settlement read rows, call these functions, and write the results. Time and
randomness are arguments, so that tests can run through years and every order of events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from outbox.policy import Action, Breaker, Dead, Discard, Pause


class Next(StrEnum):
    """Possible states of a delivery after a failed attempt."""

    PENDING = "pending"
    DEAD = "dead"
    DISCARDED = "discarded"
    PARKED = "parked"


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Retry policy: maximum attempts (None: no maximum), and backoff in seconds."""

    attempts: int | None
    base: float
    cap: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The next state and due time of a delivery; `counts`: the attempt is used up."""

    state: Next
    due_at: datetime
    counts: bool = True


def backoff(*, attempt: int, base: float, cap: float, rng: random.Random) -> timedelta:
    """Return how long to wait after the `attempt`-th attempt failed.

    Exponential with full jitter: uniform between zero and min(cap, base * 2**(attempt - 1)).
    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Args:
        attempt: number of the attempt that failed, from 1.
        base: seconds, longest wait after the first attempt.
        cap: seconds, longest wait after any attempt.
        rng: source of randomness.
    """
    ceiling = min(cap, base * 2 ** min(attempt - 1, 60))
    return timedelta(seconds=rng.uniform(0, ceiling))


def is_last(*, attempts: int, limit: int | None) -> bool:
    """Return whether the `attempts`-th attempt was the last one (`limit` None: never)."""
    return limit is not None and attempts >= limit


def after_failure(
    action: Action,
    *,
    attempts: int,
    retries: Retries,
    now: datetime,
    rng: random.Random,
    wait: timedelta | None = None,
    held_until: datetime | None = None,
) -> Verdict:
    """Decide after a handler raised.

    Args:
        action: action of the rule that matches the exception.
        attempts: number of attempts, including this one.
        retries: the handler's policy.
        now: current time.
        rng: source of randomness.
        wait: a fixed wait that replaces the backoff.
        held_until: the breaker is open until then, so the failure uses up no attempt.
    """
    if isinstance(action, Pause):
        return Verdict(state=Next.PARKED, due_at=now, counts=False)
    if isinstance(action, Discard):
        return Verdict(state=Next.DISCARDED, due_at=now)
    if isinstance(action, Dead):
        return Verdict(state=Next.DEAD, due_at=now)
    if held_until is not None:
        return Verdict(state=Next.PENDING, due_at=held_until, counts=False)
    if is_last(attempts=attempts, limit=retries.attempts):
        return Verdict(state=Next.DEAD, due_at=now)
    if wait is None:
        wait = backoff(attempt=attempts, base=retries.base, cap=retries.cap, rng=rng)
    return Verdict(state=Next.PENDING, due_at=now + wait)


def after_death(
    *,
    attempts: int,
    deaths: int,
    most_deaths: int,
    retries: Retries,
    now: datetime,
    rng: random.Random,
) -> Verdict:
    """Decide after a worker died in the handler, for the `deaths`-th time."""
    if deaths >= most_deaths or is_last(attempts=attempts, limit=retries.attempts):
        return Verdict(state=Next.DEAD, due_at=now)
    wait = backoff(attempt=attempts, base=retries.base, cap=retries.cap, rng=rng)
    return Verdict(state=Next.PENDING, due_at=now + wait)


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A breaker's state. Closed: `opened_at` is None."""

    failures: int = 0
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    wait: float = 0

    @property
    def is_open(self) -> bool:
        """Whether only probes are sent."""
        return self.opened_at is not None

    def may_probe(self, now: datetime) -> bool:
        """Return whether a probe is due."""
        return self.opened_at is not None and (self.probe_at is None or self.probe_at <= now)


def after_call_failed(
    circuit: Circuit, breaker: Breaker, *, now: datetime, is_probe: bool
) -> Circuit:
    """Count a failure that the breaker watches for: it opens, or waits longer.

    While it is open, failures other than the probe's are of deliveries sent before: ignore them.
    """
    if circuit.is_open and not is_probe:
        return circuit
    if circuit.is_open:
        wait = min(circuit.wait * 2, breaker.longest_seconds)
        return replace(circuit, wait=wait, probe_at=now + timedelta(seconds=wait))
    failures = circuit.failures + 1
    if failures < breaker.failures:
        return replace(circuit, failures=failures)
    wait = breaker.wait_seconds
    return Circuit(
        failures=failures, opened_at=now, probe_at=now + timedelta(seconds=wait), wait=wait
    )


#: Initial maximum of deliveries per message. Handlers that have proved quick get larger messages.
FIRST_BATCH = 50


def next_window(
    *,
    window: int,
    window_now: int,
    lost: int,
    room: int,
    has_due: bool,
    is_quick: bool,
    first: int,
) -> int:
    """Halve the window when leases of waiting messages expire; double it when it is nearly free.

    So a slow handler's backlog stays in the database instead of being resent repeatedly. The window
    of a quick handler doubles whenever a quarter of it is free, which gives fewer passes and larger
    messages. Without a backlog, the window returns to `first` at most.
    """
    if lost:
        # A minimum of one batch would be too large: a delivery with attempts has its own message.
        return max(1, window_now // 2)
    if not has_due:
        return min(window_now, first)
    is_free = room >= max(1, window_now // 4) if is_quick else room > window_now * 3 // 4
    return min(window, window_now * 2) if is_free and window_now < window else window_now


def probed_window(*, window: int, window_now: int, message: int, first: int) -> int:
    """Return a window that is one step larger, up to `first`, since no message waits for a worker.

    A step is a quarter of the window, and at least one message, but at most the window: its places
    may be as many messages, since a delivery with attempts has its own. So the window of a slow
    handler grows back after its breaker has opened, or after messages were lost, until one waits.

    Args:
        window: the limit of the handler, in deliveries.
        window_now: the present window, in deliveries.
        message: the maximum number of deliveries per message.
        first: the largest window that a step leads to.
    """
    step = min(window_now, max(message, window_now // 4))
    return max(window_now, min(window, first, window_now + step))


def message_size(*, window_now: int, batch: int, is_bulk: bool = False) -> int:
    """Return the maximum number of deliveries per message, which grows with the window.

    It is a tenth of the window, so that ten processes can share the work. Only quick handlers get
    more: the last delivery of a message waits for all others, even if other workers are idle. A
    bulk handler is called once for a message, so two messages share its window.
    """
    return min(batch, max(FIRST_BATCH, window_now // (2 if is_bulk else 10)))


def free_slots(*, window: int, in_flight: int, batch: int) -> int:
    """Return how many more deliveries may be sent: the free part of the window, or 0 for now.

    While a whole message is in flight, it is 0 until a quarter of the window is free. Otherwise
    each free place would cost a pass and a message of its own. If a message has one delivery, all
    of the room is used: it costs a message in any case, and a worker may be idle.
    """
    room = max(0, window - in_flight)
    if batch == 1:
        return room
    return 0 if in_flight >= batch and room < max(batch, window // 4) else room


def whole_messages(number: int, *, in_flight: int, batch: int) -> int:
    """Return how many of `number` deliveries to send now: while others run, only whole messages.

    The workers are busy meanwhile, and the rest grows to a whole message later.
    """
    return number - number % batch if in_flight >= batch else number


#: A claimed delivery: id, token, number of attempts.
Claimed = tuple[int, int, int]


def cut(claimed: Sequence[Claimed], *, batch: int) -> list[tuple[tuple[int, int], ...]]:
    """Cut claimed deliveries into messages of (id, token); each one with attempts gets its own."""
    fresh = [(id, token) for id, token, attempts in claimed if not attempts]
    batches = [tuple(fresh[start : start + batch]) for start in range(0, len(fresh), batch)]
    return batches + [((id, token),) for id, token, attempts in claimed if attempts]
