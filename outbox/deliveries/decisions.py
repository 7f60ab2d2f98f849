"""What the engine decides, as pure functions: no row, no clock, no broker, no chance of their own.

The relay and the settlement read, ask here, and write what they are told. Time and randomness come
in as arguments, so that a test can play through years and every order of events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from outbox.policy import Action, Breaker, Dead, Discard, Pause


class Next(StrEnum):
    """The states in which a delivery can be after an attempt that came to no good."""

    PENDING = "pending"
    DEAD = "dead"
    DISCARDED = "discarded"
    PARKED = "parked"


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often, and how long apart. `attempts` None: there is no last one."""

    attempts: int | None
    base: float
    cap: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a delivery; `counts`: the attempt is used up."""

    state: Next
    due_at: datetime
    counts: bool = True


def backoff(*, attempt: int, base: float, cap: float, rng: random.Random) -> timedelta:
    """Return how long to wait after the `attempt`-th attempt failed.

    Exponential with full jitter: uniform between zero and min(cap, base * 2**(attempt - 1)).
    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Args:
        attempt: number of the attempt that failed, from 1.
        base: seconds, the longest wait after the first attempt.
        cap: seconds, the longest wait of all.
        rng: source of randomness.
    """
    ceiling = min(cap, base * 2 ** min(attempt - 1, 60))
    return timedelta(seconds=rng.uniform(0, ceiling))


def is_last(*, attempts: int, limit: int | None) -> bool:
    """Return whether the `attempts`-th attempt was the last one (`limit` None: there is none)."""
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
        action: what the rules say about the exception.
        attempts: how many there were, this one included.
        retries: the handler's policy.
        now: the present moment.
        rng: source of randomness.
        wait: a given time in place of the backoff.
        held_until: the breaker is open until then: the failure uses up no attempt.
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
        """Whether nothing but probes is sent."""
        return self.opened_at is not None

    def may_probe(self, now: datetime) -> bool:
        """Whether it is time for one delivery to try."""
        return self.opened_at is not None and (self.probe_at is None or self.probe_at <= now)


def after_call_failed(
    circuit: Circuit, breaker: Breaker, *, now: datetime, is_probe: bool
) -> Circuit:
    """Count a failure of the kinds that the breaker counts: it opens, or waits longer.

    What fails while it is open and is no probe was on its way before: that tells nothing new.
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


#: What a message holds at first, whatever it may hold: more is for those that have proved quick.
FIRST_BATCH = 50


def next_window(
    *,
    window: int,
    window_now: int,
    batch: int,
    lost: int,
    room: int,
    has_due: bool,
    is_quick: bool,
    first: int,
) -> int:
    """Halve the window when messages outwait their lease; double it when it runs dry.

    So a slow handler's backlog stays in the database instead of being sent in circles. A quick
    one's, of which nothing stays in flight for long, takes fewer passes and larger messages: its
    window doubles whenever a quarter of it is free. When nothing waits it is the `first` again.
    """
    if lost:
        return max(min(batch, FIRST_BATCH, window), window_now // 2)
    if not has_due:
        return min(window_now, first)
    is_free = room >= window_now // 4 if is_quick else room > window_now * 3 // 4
    return min(window, window_now * 2) if is_free and window_now < window else window_now


def message_size(*, window_now: int, batch: int) -> int:
    """Return how many deliveries go into a message: more where the window has grown.

    A tenth of it, so that ten processes have their part; and only of a handler that is quick, since
    what is at the end of a message waits for all before it, whoever is idle meanwhile.
    """
    return min(batch, max(FIRST_BATCH, window_now // 10))


def free_slots(*, window: int, in_flight: int, batch: int) -> int:
    """Return how many more may be sent: what the window has room for, or none for a while.

    While a message and more is in flight, a little room is let grow to a quarter of the window. To
    fill each gap at once would take a pass of the relay and a message for every few deliveries.
    """
    room = max(0, window - in_flight)
    return 0 if in_flight >= batch and room < max(batch, window // 4) else room


def whole_messages(number: int, *, in_flight: int, batch: int) -> int:
    """Return how many of `number` deliveries go now: while others are in flight, whole messages.

    The workers have enough to do meanwhile, and what is left becomes a whole message, too.
    """
    return number - number % batch if in_flight >= batch else number


#: A claimed delivery: its id, its token, and how often it was attempted.
Claimed = tuple[int, int, int]


def cut(claimed: Sequence[Claimed], *, batch: int) -> list[tuple[tuple[int, int], ...]]:
    """Cut what was claimed into messages of (id, token); what once failed travels alone."""
    fresh = [(id, token) for id, token, attempts in claimed if not attempts]
    batches = [tuple(fresh[start : start + batch]) for start in range(0, len(fresh), batch)]
    return batches + [((id, token),) for id, token, attempts in claimed if attempts]
