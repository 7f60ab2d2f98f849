"""Row and table locks that the relay, operations, redaction and retention share.

A statement that waits for a lock sees the locked rows as they are afterwards. It sees everything
else (a joined table, an EXISTS) as it was when the statement began. So take the lock first, then
read the facts for the decision in a separate statement.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from outbox.deliveries.statements import bound_transaction, with_numbers
from outbox.deliveries.transient_errors import sqlstate_of
from outbox.models import Delivery

#: Longest time that one try to lock the table may block the relays.
_TRY_SECONDS = 0.3
#: Of tries without a maximum, each of this number waits longer: after 1 s of waiting
#: (`deadlock_timeout`), PostgreSQL ends an autovacuum that holds the lock.
_LONG_EACH, _LONG_SECONDS = 10, 1.5
#: PostgreSQL ends a transaction with the lock that is idle for so many seconds: its host may be
#: down, and its lock delays all relays. Pauses between tries are shorter.
_IDLE_SECONDS = 5.0
_LOCK_NOT_AVAILABLE = "55P03"


def lock_subscriptions(*, using: str, tries: int | None = None) -> None:
    """Wait for every transaction that acts on subscriptions, and block new ones.

    Use it to change which handlers are owed which events. Until the caller's transaction ends, no
    relay creates a delivery and no operation replays one. Emitting and running handlers continue.
    On SQLite it does nothing, since SQLite has one writer.

    Every relay queues behind a transaction that waits for this lock. So each try is short, and
    relays continue between two tries. PostgreSQL ends the transaction if it is then idle for five
    seconds.

    Args:
        using: the outbox's database alias.
        tries: maximum number of tries; None retries until the lock is free. A caller that holds
            row locks must set it: short tries end before PostgreSQL checks for a deadlock.

    Raises:
        OperationalError: the last try failed.
    """
    bound_transaction(_IDLE_SECONDS, using=using)
    lock_table("outbox_subscription", mode="EXCLUSIVE", using=using, tries=tries)


def wait_for_passes(*, using: str) -> None:
    """Wait for every transaction that acts on subscriptions as they were before.

    A pass of a relay reads the subscriptions, and stores its deliveries later. After this call, the
    passes that may not have seen the caller's last commit have ended. Call it outside of a
    transaction, which would keep the lock.
    """
    with transaction.atomic(using=using):
        lock_subscriptions(using=using)


def lock_table(*tables: str, mode: str, using: str, tries: int | None = None) -> None:
    """Lock tables on PostgreSQL, in short tries between which others continue.

    Each transaction that needs a table queues behind one that waits for its lock. A try for several
    tables never waits longer than others do before they look for a deadlock.

    Args:
        tables: names of tables.
        mode: mode of the lock, such as "EXCLUSIVE".
        using: the database alias.
        tries: maximum number of tries; None retries until the locks are free.

    Raises:
        OperationalError: the last try failed.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        step = partial(_lock_briefly, connection, tables, mode)
        in_short_tries(step, using=using, tries=tries, has_long=len(tables) == 1)


def in_short_tries(
    step: Callable[[float], None],
    *,
    using: str,
    tries: int | None = None,
    has_long: bool = True,
) -> None:
    """Repeat a step that needs locks, each time in a transaction or savepoint of its own.

    Args:
        step: gets the seconds for which it may wait for locks.
        using: the database alias.
        tries: maximum number of tries; None retries until the step succeeds.
        has_long: some tries without a maximum wait long enough to end an autovacuum.

    Raises:
        OperationalError: the last try failed, or another error than a wait that timed out.
    """
    for number in count(1):
        is_long = has_long and tries is None and number % _LONG_EACH == 0
        try:
            with transaction.atomic(using=using):
                step(_LONG_SECONDS if is_long else _TRY_SECONDS)
            return
        except OperationalError as error:
            if not is_lock_timeout(error) or number == tries:
                raise
        time.sleep(random.uniform(0.5, 1.5) * _TRY_SECONDS)


def is_lock_timeout(error: OperationalError) -> bool:
    """Return whether a statement failed because its wait for a lock timed out."""
    # The text is SQLite's.
    return sqlstate_of(error) == _LOCK_NOT_AVAILABLE or "is locked" in str(error)


def _lock_briefly(
    connection: BaseDatabaseWrapper, tables: Collection[str], mode: str, seconds: float
) -> None:
    end, left = time.monotonic() + seconds, seconds
    for table in tables:
        with limited_waits(left, connection=connection) as cursor:
            cursor.execute(f'LOCK TABLE "{table}" IN {mode} MODE')
        left = max(0.001, end - time.monotonic())  # 0 is no limit


@contextmanager
def limited_waits(seconds: float, *, connection: BaseDatabaseWrapper) -> Iterator[Any]:
    """Yield a cursor whose statements wait for a lock for so long, in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        [before] = cursor.fetchone()
        cursor.execute(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")
        yield cursor
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def share_subscriptions(*, using: str) -> None:
    """Keep `lock_subscriptions` out until the caller's transaction ends.

    The relays' own statements take this lock implicitly. Other code that makes a delivery owed
    takes it first, then checks that the subscription is active.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE outbox_subscription IN ROW SHARE MODE")


def lock_deliveries(seqs: Collection[int], *, using: str) -> list[tuple[int, int, str]]:
    """Lock all deliveries of some events.

    The caller has locked the events, so no delivery can be added to them meanwhile.

    Args:
        seqs: the events' `seq`.
        using: the outbox's database alias.

    Returns:
        (delivery id, event seq, state) of each delivery, read under its lock.
    """
    # All code locks several deliveries in the order of ids. `+ 0` prevents the planner from
    # scanning the whole primary key for that order.
    rows = with_numbers(Delivery.objects.using(using), "event_id", seqs).order_by(F("id") + 0)
    return list(rows.select_for_update().values_list("id", "event_id", "state"))
