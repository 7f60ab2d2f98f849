"""Handlers that do as they are told, and note each effect in the transaction of their receipt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, connection

from outbox import PermanentFailure, Receipt, subscribe, subscriptions
from outbox.deliveries.sync import sync_subscriptions
from tests.outbox.model.happenings import RAISING, Mood
from tests.outbox.model.reference import LEASE, POLICIES, Debt, Policy

Handle = Callable[[Policy, int, AbstractContextManager[Any]], None]


@dataclass
class Hand:
    """A worker with one message, and how its first run goes."""

    tokens: dict[Debt, int]
    mood: Mood
    started: list[Debt] = field(default_factory=list)
    current: Debt | None = None
    tried: Debt | None = None  # it failed beside others, and is run again alone
    acted: list[Debt] = field(default_factory=list)  # in the transaction that is open

    @property
    def holds(self) -> bool:
        """Whether nobody else was given meanwhile what it works on."""
        debt = self.current
        return debt is not None and bool(debt.in_hand_until) and debt.token == self.tokens[debt]

    @property
    def is_beside_others(self) -> bool:
        """Whether what it works on shares a transaction."""
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


def fail(hand: Hand, mood: Mood) -> None:
    """Raise, if that is the mood; what a worker raises whose lease is lost, changes nothing."""
    debt = hand.current
    assert debt is not None
    if mood in RAISING and hand.is_beside_others:
        hand.tried, hand.mood = debt, mood
        raise ValueError("nothing of it is kept")
    if mood is Mood.IS_LOCKED_OUT:
        debt.give_back()
        raise OperationalError("database is locked")
    if mood is Mood.REFUSES:
        debt.end(is_refused=True)
        raise PermanentFailure("as it was told")
    if mood in (Mood.FAILS, Mood.STALLS_AND_FAILS):
        if hand.holds:
            debt.end()
        raise ValueError("as it was told")


def act(debt: Debt) -> None:
    """Have the effect; call it within the receipt."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect VALUES (%s, %s)", [debt.policy.name, debt.number])


def effects() -> list[tuple[str, int]]:
    """Return which handler acted on what, in that order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT handler, number FROM effect")
        return [(handler, number) for handler, number in cursor.fetchall()]
