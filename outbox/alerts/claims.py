"""Claims: which process runs the next check, sends the next ping, or sends a channel's messages.

A claim is a row with an end. Whoever moves the end forward, in one statement, has it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from outbox import clock
from outbox.models import AlertClaim


def take(name: str, *, seconds: float, using: str) -> str:
    """Return the token of a new claim, or "" while another process has it.

    Args:
        name: the claim.
        seconds: its length. Without `release`, it ends after this time.
        using: the outbox's database alias.
    """
    now, rows = clock.now(using=using), AlertClaim.objects.using(using)
    known = rows.filter(name=name).first()
    if known is None:
        rows.bulk_create([AlertClaim(name=name, until=now)], ignore_conflicts=True)
    elif known.until > now:
        return ""
    token = uuid4().hex
    free = rows.filter(name=name, until__lte=now)
    return token if free.update(token=token, until=now + timedelta(seconds=seconds)) else ""


def keep(name: str, token: str, *, seconds: float, using: str) -> bool:
    """Extend a claim by `seconds` from now; return whether it still belongs to its token."""
    until = clock.now(using=using) + timedelta(seconds=seconds)
    mine = AlertClaim.objects.using(using).filter(name=name, token=token)
    return bool(mine.update(until=until))


def release(name: str, token: str, *, using: str) -> None:
    """End a claim now, if it still belongs to its token."""
    keep(name, token, seconds=0.0, using=using)
