"""Handlers with a chosen outcome, which store each effect in the transaction of their receipt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, connection

from outbox import PermanentFailure, Receipt, subscribe, subscriptions
from outbox.deliveries.sync import sync_subscriptions
from tests.outbox.model.actions import RAISING, Mood
from tests.outbox.model.reference import LEASE, POLICIES, Debt, Policy

Handle = Callable[[Policy, int, AbstractContextManager[Any]], None]


@dataclass
class Worker:
    """A worker with one message, and the outcome of its first run."""

    tokens: dict[Debt, int]
    mood: Mood
    started: list[Debt] = field(default_factory=list)
    current: Debt | None = None
    tried: Debt | None = None  # it failed in a shared transaction, and is run again alone
    acted: list[Debt] = field(default_factory=list)  # in the open transaction

    @property
    def has_lease(self) -> bool:
        """Whether its current delivery was not sent to another worker meanwhile."""
        debt = self.current
        return debt is not None and bool(debt.leased_until) and debt.token == self.tokens[debt]

    @property
    def shares_transaction(self) -> bool:
        """Whether its current delivery shares a transaction with others."""
        debt = self.current
        assert debt is not None
        return debt.policy.atomic and len(self.started) > 1 and self.tried is None


def subscribe_all(handle: Handle) -> None:
    subscriptions.registry.clear()
    for policy in POLICIES:
        _subscribe(policy, handle)
    sync_subscriptions()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE effect (handler text, number integer)")


def _subscribe(policy: Policy, handle: Handle) -> None:
    def atomic(number: int) -> None:
        handle(policy, number, nullcontext())

    def calling(number: int, receipt: Receipt) -> None:
        handle(policy, number, receipt)

    subscribe(
        *policy.events,
        name=policy.name,
        atomic=policy.atomic,
        attempts=policy.attempts,
        window=policy.window,
        batch=policy.batch,
        lease=LEASE.total_seconds(),
        backoff_base=2,
        backoff_cap=8,
        ordered=policy.ordered,
        on_dead=policy.on_dead,
    )(atomic if policy.atomic else calling)


def fail(worker: Worker, mood: Mood) -> None:
    """Raise if the mood demands it. An exception of a worker without its lease changes nothing."""
    debt = worker.current
    assert debt is not None
    if mood in RAISING and worker.shares_transaction:
        worker.tried, worker.mood = debt, mood
        raise ValueError("the transaction is rolled back")
    if mood is Mood.IS_LOCKED_OUT:
        debt.give_back()
        raise OperationalError("database is locked")
    if mood is Mood.REFUSES:
        debt.end(is_refused=True)
        raise PermanentFailure("as its mood demands")
    if mood in (Mood.FAILS, Mood.STALLS_AND_FAILS):
        if worker.has_lease:
            debt.end()
        raise ValueError("as its mood demands")


def act(debt: Debt) -> None:
    """Store the effect. Call it within the receipt."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect VALUES (%s, %s)", [debt.policy.name, debt.number])


def effects() -> list[tuple[str, int]]:
    """Return handler and event number of each effect, in the order of the effects."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT handler, number FROM effect")
        return [(handler, number) for handler, number in cursor.fetchall()]
