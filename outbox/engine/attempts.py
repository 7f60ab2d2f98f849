"""What is remembered of an attempt that came to no good: when, where, and what was raised."""

from __future__ import annotations

import traceback
from types import FrameType

from outbox import clock
from outbox.models import Attempt, Delivery
from outbox.privacy.sensitive import masked_text

_TRACEBACK_LENGTH = 20_000
_MESSAGE_LENGTH = 2_000
_OURS = ("outbox.engine.time_limit",)


def remember(
    row: Delivery, outcome: Attempt.Outcome, error: BaseException | None, *, using: str
) -> None:
    """Store the attempt that the delivery has just had."""
    now = clock.now(using=using)
    Attempt.objects.using(using).create(
        delivery_id=row.pk,
        number=row.attempts,
        started_at=row.started_at or now,
        ended_at=max(now, row.started_at or now),
        worker=row.worker,
        outcome=outcome,
        exception=type(error).__name__ if error else "",
        message=fit_to_keep(text_of(error), row)[:_MESSAGE_LENGTH] if error else "",
        traceback=fit_to_keep(_formatted(error), row)[-_TRACEBACK_LENGTH:] if error else "",
        place=_place(error)[:300] if error else "",
    )


def summary(error: BaseException, row: Delivery) -> str:
    """Say in one line what was raised."""
    return fit_to_keep(f"{type(error).__name__}: {text_of(error)}", row)[:300]


def text_of(error: BaseException) -> str:
    """Return an exception's text, also where asking for it raises: that must stop nobody."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be read)"


def fit_to_keep(text: str, row: Delivery) -> str:
    """Make what an exception says fit to be stored. Every stored text of one passes here.

    What the event has of a person is masked, before anything is cut off.
    PostgreSQL stores neither NUL nor lone surrogates, and an error text must never fail to save.
    """
    text = masked_text(text, row.event)
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _formatted(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _place(error: BaseException) -> str:
    """Name the innermost line of the project's own code, else the innermost line at all."""
    frames: list[tuple[FrameType, int]] = [
        pair
        for pair in traceback.walk_tb(error.__traceback__)
        if pair[0].f_globals.get("__name__") not in _OURS
    ]
    if not frames:
        return ""
    own = [pair for pair in frames if "site-packages" not in pair[0].f_code.co_filename]
    frame, line = (own or frames)[-1]
    return f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
