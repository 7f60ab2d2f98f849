"""The receipt: it makes deliveries done in the transaction of their effects.

The transaction has this order: effects and emitted events, the receipt, the release of the next
delivery of an ordered key. The receipt is fenced by the start: another worker's start makes it
raise `LeaseLost`, which rolls back everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from django.db import connections, transaction

from outbox import clock
from outbox.databases import is_open
from outbox.models import Delivery
from outbox.receipt import LeaseLost, Receipt
from outbox.subscriptions import Handler

from . import failpoints, ordering
from .beside import no_write_beside
from .lease import HELD, STARTED, Lease, Start, by_start
from .statements import bound_transaction, execute, locking, numbers, read, timestamp
from .time_limit import Limit


@contextmanager
def transaction_with_receipt(
    handler: Handler, delivery: Delivery, *, after_effects: Callable[[], object], using: str
) -> Iterator[None]:
    """Open a transaction for a delivery's effects; it ends with the receipt.

    Args:
        handler: the delivery's handler.
        delivery: the delivery as it was started.
        after_effects: called before the receipt is stored.
        using: the outbox's database alias.

    Raises:
        LeaseLost: another worker has the delivery.
    """
    with transaction.atomic(using=using):
        bound_transaction(handler.lease, using=using)
        failpoints.reach(failpoints.BEFORE_EFFECTS)
        with no_write_beside(using):
            yield
        after_effects()
        failpoints.reach(failpoints.BEFORE_RECEIPT)
        give([delivery], using=using)
    failpoints.reach(failpoints.AFTER_RECEIPT)


def receipt_of(
    handler: Handler,
    delivery: Delivery,
    limit: Limit,
    *,
    lease: Lease,
    after_effects: Callable[[], object],
    using: str,
) -> Receipt:
    """Return the receipt that a handler with `atomic=False` enters.

    Args:
        handler: the delivery's handler.
        delivery: the delivery as it was started.
        limit: the time limit of the run. It does not interrupt the receipt's COMMIT, whose result
            would be unknown.
        lease: the lease of the message.
        after_effects: called before the receipt is stored.
        using: the outbox's database alias.
    """

    def end_effects() -> None:
        limit.pause()
        after_effects()

    def extend() -> None:
        lease.extend(delivery)
        limit.restart()

    open_transaction = partial(
        _entered, handler, delivery, limit, after_effects=end_effects, using=using
    )
    return Receipt(open_transaction, extend)


@contextmanager
def _entered(
    handler: Handler,
    delivery: Delivery,
    limit: Limit,
    *,
    after_effects: Callable[[], object],
    using: str,
) -> Iterator[None]:
    """As `transaction_with_receipt`, but raise LeaseLost at its beginning.

    Raises:
        RuntimeError: the handler has opened a transaction, whose rollback would undo the receipt.
    """
    if is_open(connections[using]):
        raise RuntimeError(
            f"{handler.name} enters its receipt within a transaction, whose rollback would undo "
            "the receipt. Remove that atomic(): `with receipt:` opens the transaction."
        )
    effects = partial(transaction_with_receipt, after_effects=after_effects, using=using)
    try:
        with effects(handler, delivery):
            if not _lock(delivery, using=using):
                raise LeaseLost(LeaseLost.__doc__)
            yield
    finally:
        limit.resume()


def give(deliveries: Sequence[Delivery], *, using: str) -> None:
    """Store the receipts of a handler's deliveries, and release the next ones of their keys.

    Raises:
        LeaseLost: a start does not hold its delivery any more. The caller rolls back.
    """
    now = timestamp(clock.now(using=using), using=using)
    given = 0
    for start, ids in by_start(deliveries).items():
        statement = f"{_GIVE} WHERE id IN ({numbers(ids)}) AND {HELD}"
        given += execute(statement, now, *start.values(using=using), using=using)
    if given != len(deliveries):
        raise LeaseLost(LeaseLost.__doc__)
    keys = [row.order_key for row in deliveries if row.order_key is not None]
    if keys:
        ordering.release_keys(deliveries[0].subscription.handler, keys, using=using)


def given_to(deliveries: Sequence[Delivery], *, using: str) -> set[int]:
    """Return the ids of deliveries that these starts have done; a token has one start."""
    done: set[int] = set()
    for start, ids in by_start(deliveries).items():
        where = f"id IN ({numbers(ids)}) AND state = 'done' AND {STARTED}"
        statement = f"{_GIVEN} WHERE {where}"
        done |= {pk for (pk,) in read(statement, *start.values(using=using), using=using)}
    return done


def _lock(delivery: Delivery, *, using: str) -> bool:
    """Lock the delivery's row if this start still holds it; return whether it does."""
    statement = f"{_GIVEN} WHERE id = %s AND {HELD}{locking(using=using)}"
    values = Start.of(delivery).values(using=using)
    return bool(read(statement, delivery.id, *values, using=using))


_GIVE = "UPDATE outbox_delivery SET state = 'done', settled_at = %s, note = '', order_key = NULL"
_GIVEN = "SELECT id FROM outbox_delivery"
