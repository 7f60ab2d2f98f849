"""What becomes of a delivery that was not done: tried again, handed back, parked or dead."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import FrameType

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from .conf import conf
from .models import Attempt, Delivery, Subscription
from .receipt import LeaseLost, PermanentFailure
from .retry import backoff, drop_broken_connection, is_last, is_transient

_HAND_BACK_SECONDS = 5
_TRACEBACK_LENGTH = 20_000

State = Delivery.State
Outcome = Attempt.Outcome


def fail(delivery: Delivery, error: BaseException, *, using: str) -> str:
    """Record that a handler raised; return the delivery's state afterwards.

    What is the database's fault is handed back and is no attempt. A run that lost its lease only
    leaves a record: the delivery is in other hands.
    """
    drop_broken_connection(using=using)
    with transaction.atomic(using=using):
        row = _held(delivery, using=using)
        if row is None or isinstance(error, LeaseLost):
            _remember(delivery, Outcome.LEASE_LOST, error, using=using)
            return row.state if row else Delivery.objects.using(using).get(pk=delivery.pk).state
        if is_transient(error):
            return _hand_back_started(row, error, using=using)
        refused = isinstance(error, PermanentFailure)
        _remember(row, Outcome.REFUSED if refused else Outcome.FAILED, error, using=using)
        return _decide(row, note=_summary(error), is_over=refused, using=using)


def record_death(row: Delivery, *, using: str) -> None:
    """Record that the worker died in this delivery's handler: started, and the lease passed.

    The caller holds the row's lock.
    """
    _remember(row, Outcome.DIED, None, using=using)
    # Those of these attempts: a person's retry counts them from zero, and the deaths with them.
    latest = Attempt.objects.using(using).filter(delivery=row).order_by("-id")[: row.attempts]
    deaths = list(latest.values_list("outcome", flat=True)).count(Outcome.DIED)
    limit = conf().DEATHS
    note = f"the worker died {deaths} time(s) in this handler, no exception was recorded"
    _decide(row, note=note, is_over=deaths >= limit, using=using)


def hand_back(pairs: Sequence[tuple[int, int]], *, note: str, using: str) -> None:
    """Return deliveries that were not started, each under its token; they cost no attempt."""
    due_at = timezone.now() + timedelta(seconds=_HAND_BACK_SECONDS)
    for delivery_id, token in pairs:
        Delivery.objects.using(using).filter(
            id=delivery_id, token=token, started_token__lt=token, state=State.SENT
        ).update(state=State.PENDING, due_at=due_at, note=note[:300])


def park(rows: Iterable[Delivery], *, using: str) -> None:
    """Take deliveries of a held handler out of what is due. The caller holds their locks."""
    for row in rows:
        note = parking_note(row.subscription)
        Delivery.objects.using(using).filter(pk=row.pk).update(state=State.PARKED, note=note)


def parking_note(subscription: Subscription) -> str:
    """Say why a handler's deliveries are parked."""
    if subscription.paused_at:
        return f"its handler is paused by {subscription.paused_by or 'someone'}"
    return "its handler is unknown to the code that was last migrated"


def text_of(error: BaseException) -> str:
    """Return an exception's text, also where asking for it raises: that must stop nobody."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be read)"


def _held(delivery: Delivery, *, using: str) -> Delivery | None:
    return (
        Delivery.objects.using(using)
        .select_for_update(of=("self",))
        .select_related("subscription")
        .filter(pk=delivery.pk, token=delivery.token, state=State.SENT)
        .first()
    )


def _decide(row: Delivery, *, note: str, is_over: bool, using: str) -> str:
    policy = row.subscription
    is_over = is_over or is_last(attempts=row.attempts, limit=policy.attempts)
    wait = backoff(attempt=row.attempts, base=policy.backoff_base, cap=policy.backoff_cap)
    row.state = State.DEAD if is_over else State.PENDING
    row.due_at = timezone.now() + wait
    row.note = note[:300]
    row.save(using=using, update_fields=["state", "due_at", "note"])
    return row.state


def _hand_back_started(row: Delivery, error: BaseException, *, using: str) -> str:
    Delivery.objects.using(using).filter(pk=row.pk).update(
        state=State.PENDING,
        attempts=F("attempts") - 1,
        due_at=timezone.now() + timedelta(seconds=1),
        note=f"the database was to blame: {_summary(error)}"[:300],
    )
    return State.PENDING


def _remember(
    row: Delivery, outcome: Attempt.Outcome, error: BaseException | None, *, using: str
) -> None:
    now = timezone.now()
    Attempt.objects.using(using).create(
        delivery_id=row.pk,
        number=row.attempts,
        started_at=row.started_at or now,
        ended_at=_latest(row, now),
        worker=row.worker,
        outcome=outcome,
        exception=type(error).__name__ if error else "",
        message=_storable(text_of(error))[:2000] if error else "",
        traceback=_storable(_formatted(error))[-_TRACEBACK_LENGTH:] if error else "",
        place=_place(error)[:300] if error else "",
    )


def _latest(row: Delivery, now: datetime) -> datetime:
    return max(now, row.started_at) if row.started_at else now


def _summary(error: BaseException) -> str:
    return _storable(f"{type(error).__name__}: {text_of(error)}")[:300]


def _formatted(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _storable(text: str) -> str:
    # PostgreSQL stores neither NUL nor lone surrogates, and an error text must never fail to save.
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _place(error: BaseException) -> str:
    """Name the innermost line of the project's own code, else the innermost line at all."""
    frames: list[tuple[FrameType, int]] = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return ""
    own = [pair for pair in frames if "site-packages" not in pair[0].f_code.co_filename]
    frame, line = (own or frames)[-1]
    return f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
