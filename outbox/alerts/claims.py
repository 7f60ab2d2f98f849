"""Claims: which process runs the next check, sends the next ping, or sends a channel's messages.

A claim is a row with an end. Whoever moves the end forward, in one statement, has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from uuid import uuid4

from django.db import connections
from django.db.models import Q

from outbox import clock
from outbox.deliveries.transient_errors import drop_broken_connection
from outbox.models import AlertClaim

logger = logging.getLogger("outbox.alerts")

Around = Callable[[], AbstractContextManager[object]]

#: A time in a row that is this much further in the future than possible was stored before the clock
#: went back.
CLOCK_TOLERANCE = timedelta(seconds=60)
#: A claim is extended this many times within its length.
_EXTENSIONS = 3


def take(name: str, *, seconds: float, using: str, longest: float | None = None) -> str:
    """Return the token of a new claim, or "" while another process has it.

    A claim that ends later than any process can have stored is void: the clock has gone back.

    Args:
        name: the claim.
        seconds: its length. Without `release`, it ends after this time.
        using: the outbox's database alias.
        longest: the longest extension of this claim by `keep`, in seconds. None: `seconds`.
    """
    now, rows = clock.now(using=using), AlertClaim.objects.using(using)
    possible = now + timedelta(seconds=max(seconds, longest or 0.0)) + CLOCK_TOLERANCE
    known = rows.filter(name=name).first()
    if known is None:
        rows.bulk_create([AlertClaim(name=name, until=now)], ignore_conflicts=True)
    elif now < known.until <= possible:
        return ""
    token = uuid4().hex
    free = rows.filter(Q(until__lte=now) | Q(until__gt=possible), name=name)
    return token if free.update(token=token, until=now + timedelta(seconds=seconds)) else ""


def keep(name: str, token: str, *, seconds: float, using: str) -> bool:
    """Extend a claim by `seconds` from now; return whether it still belongs to its token."""
    until = clock.now(using=using) + timedelta(seconds=seconds)
    mine = AlertClaim.objects.using(using).filter(name=name, token=token)
    return bool(mine.update(until=until))


def release(name: str, token: str, *, using: str) -> None:
    """End a claim now, if it still belongs to its token."""
    keep(name, token, seconds=0.0, using=using)


@contextmanager
def kept(
    name: str, token: str, *, seconds: float, at_most: float, using: str, around: Around
) -> Iterator[None]:
    """Extend a claim again and again within the block, by a thread.

    So a claim is short, and a process that dies holds it briefly. A block that hangs holds it for
    `at_most` seconds.

    Args:
        name: the claim.
        token: its token.
        seconds: length of each extension.
        at_most: seconds after which it is extended no more.
        using: the outbox's database alias.
        around: the context of each use of the database.
    """
    done = threading.Event()

    def extend() -> None:
        end, is_mine = time.monotonic() + at_most, True
        try:
            while is_mine and not done.wait(seconds / _EXTENSIONS) and time.monotonic() < end:
                is_mine = _kept_or_unknown(name, token, seconds=seconds, using=using, around=around)
        finally:
            connections.close_all()

    thread = threading.Thread(target=extend, name=f"outbox-alerts claim {name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _kept_or_unknown(name: str, token: str, *, seconds: float, using: str, around: Around) -> bool:
    """Extend a claim; return False once it belongs to another token. An error is no such answer.

    The next extension is in time, unless all of a claim's length fail: the message may then be
    sent twice.
    """
    try:
        with around():
            drop_broken_connection(using=using)
            return keep(name, token, seconds=seconds, using=using)
    except Exception as error:
        logger.warning("The claim %s of alerts could not be extended: %s", name, error)
        return True
