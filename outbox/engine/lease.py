"""The lease of a message's deliveries: how long it lasts, and how it is kept alive meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import connections
from django.db.models import F

from outbox import clock
from outbox.models import Delivery
from outbox.receipt import LeaseLost
from outbox.transactions import is_open

from .statements import SENT, execute, locking, moment, numbers, read

_RENEWED_AFTER = 1 / 3


class Lease:
    """Keeps the lease of a batch alive between its deliveries, so that it need only outlast one."""

    def __init__(self, rows: Sequence[Delivery], *, seconds: float, using: str) -> None:
        self._waiting = {row.id for row in rows}
        self._worker = rows[0].worker if rows else ""
        self._seconds = seconds
        self._using = using
        self._renewed = time.monotonic()

    def begin(self, delivery: Delivery) -> None:
        """Note that `delivery` is next; extend what is left when a third of the lease is over."""
        self.keep()
        self._waiting.remove(delivery.id)

    def keep(self) -> None:
        """Extend what is left when a third of the lease is over."""
        if time.monotonic() - self._renewed > self._seconds * _RENEWED_AFTER:
            self.renew()

    def end(self, delivery: Delivery) -> None:
        """Note that `delivery` needs no lease any more."""
        self._waiting.remove(delivery.id)

    def extend(self, delivery: Delivery) -> None:
        """Give the delivery in hand its whole lease again, and those that wait for it theirs."""
        if is_open(connections[self._using]):
            raise RuntimeError("receipt.extend() within a transaction: nobody would see it.")
        until = moment(
            clock.now(using=self._using) + duration(1, seconds=self._seconds), using=self._using
        )
        if not execute(_EXTEND, until, delivery.id, delivery.token, using=self._using):
            raise LeaseLost(LeaseLost.__doc__)
        self.renew()

    def renew(self) -> None:
        """Extend what waits, as far as it is still in these hands."""
        mine = Delivery.objects.using(self._using)
        rows = mine.filter(id__in=self._waiting, worker=self._worker)
        started = rows.filter(state=Delivery.State.SENT, started_token=F("token"))
        until = duration(len(self._waiting), seconds=self._seconds)
        started.update(due_at=clock.now(using=self._using) + until)
        self._renewed = time.monotonic()


def duration(number: int, *, seconds: float) -> timedelta:
    """Say how long a batch is in good hands: whichever is next, it still has its whole lease."""
    return timedelta(seconds=seconds * (1 + _RENEWED_AFTER if number > 1 else 1))


def by_token(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """Return ids by the tokens under which they were sent: of one message, nearly always one."""
    ids: dict[int, list[int]] = {}
    for delivery_id, token in pairs:
        ids.setdefault(token, []).append(delivery_id)
    return ids


def lock_held(delivery: Delivery, *, using: str) -> bool:
    """Lock the delivery's row; tell whether it is still in these hands."""
    statement = f"SELECT id FROM outbox_delivery WHERE id = %s AND {_HELD}{locking(using=using)}"  # noqa: S608  ours
    return bool(read(statement, delivery.id, delivery.token, using=using))


def give_receipts(ids: Iterable[int], *, token: int, using: str) -> int:
    """Write the receipts of what is still in hand under this token; return how many there were."""
    now = moment(clock.now(using=using), using=using)
    return execute(f"{_RECEIPT} WHERE id IN ({numbers(ids)}) AND {_HELD}", now, token, using=using)


def has_receipt(delivery: Delivery, *, using: str) -> bool:
    """Tell whether the delivery is done by this very run: a token starts once."""
    done = Delivery.objects.using(using).filter(state=Delivery.State.DONE)
    return done.filter(pk=delivery.pk, token=delivery.token).exists()


def is_started(delivery: Delivery, *, using: str) -> bool:
    """Tell whether it is stored that this very start has happened, and nothing has since."""
    rows = Delivery.objects.using(using).filter(pk=delivery.pk, state=Delivery.State.SENT)
    return rows.filter(
        started_token=delivery.token, started_at=delivery.started_at, worker=delivery.worker
    ).exists()


_HELD = f"token = %s AND {SENT}"
_RECEIPT = "UPDATE outbox_delivery SET state = 'done', settled_at = %s, note = '', order_key = NULL"
_EXTEND = f"UPDATE outbox_delivery SET due_at = %s WHERE id = %s AND {_HELD}"  # noqa: S608  ours
