"""Records of failed attempts: time, place and exception.

`describe` describes each failed run once. The attempt's row, the delivery's note, the log line and
the span all show that description.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from types import FrameType

from outbox import clock, guards, tenants
from outbox.conf import conf
from outbox.models import Attempt, Delivery, Event
from outbox.privacy.cleaning import cleaner_for

#: Maximum lengths in characters, at most those of their columns.
_TRACEBACK_LENGTH = 20_000
_MESSAGE_LENGTH = 2_000
NOTE_LENGTH = 300
_NAME_LENGTH = 200
_PLACE_LENGTH = 300
_PATH_LENGTH = 300
_RELEASE_LENGTH = 100

#: The outbox's own code that runs around a handler.
_PROCESS_ROOMS = ("outbox.relay.", "outbox.worker.", "outbox.deliveries.", "outbox.transports.")
#: Modules that are never the cause of a failure: a time limit raises in them.
_NEVER_CAUSES = ("outbox.deliveries.time_limit",)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An exception as it is stored and shown, without personal data and storable in any database.

    Attributes:
        exception: the name of its class.
        exception_path: the dotted path of its class.
        message: its text.
        traceback: the end of its traceback.
        place: the innermost line of the project's own code: "orders.services:42 place_order".
    """

    exception: str
    exception_path: str
    message: str
    traceback: str
    place: str

    @property
    def summary(self) -> str:
        """The exception in one line, at most as long as a note."""
        return f"{self.exception}: {self.message}"[:NOTE_LENGTH]


def describe(error: BaseException, *events: Event, using: str | None = None) -> Failure:
    """Describe an exception that was raised while these events were handled.

    Read the personal data of the events' subjects and remove it from the texts. Never raises.
    """
    cleaner = cleaner_for(*events, using=using, has_subjects=not tenants.is_of_restore(error))
    return Failure(
        exception=_storable(type(error).__name__)[:_NAME_LENGTH],
        exception_path=_storable(_path(type(error)))[:_PATH_LENGTH],
        message=_storable(cleaner.clean(_text_of(error), longest=_MESSAGE_LENGTH)),
        traceback=_storable(cleaner.clean_end(_formatted(error), longest=_TRACEBACK_LENGTH)),
        place=_storable(_place(error))[:_PLACE_LENGTH],
    )


def remember(
    row: Delivery, outcome: Attempt.Outcome, failure: Failure | None, *, using: str
) -> None:
    """Store the delivery's latest attempt; `failure` is None if the worker died."""
    now = clock.now(using=using)
    Attempt.objects.using(using).create(
        delivery_id=row.pk,
        number=row.attempts,
        started_at=row.started_at or now,
        ended_at=max(now, row.started_at or now),
        worker=row.worker,
        outcome=outcome,
        exception=failure.exception if failure else "",
        exception_path=failure.exception_path if failure else "",
        message=failure.message if failure else "",
        traceback=failure.traceback if failure else "",
        place=failure.place if failure else "",
        release=str(conf().RELEASE or "")[:_RELEASE_LENGTH] if failure else "",
    )


def count_since_retry(row: Delivery, wanted: Attempt.Outcome, *, using: str) -> int:
    """Count the attempts with the outcome `wanted` since the delivery was last retried or replayed.

    Both restart the attempt numbers at one. A number occurs twice if a failure used up no attempt.
    So a number alone does not show a retry of a delivery that ended at its first attempt. Lost
    leases are left out, because the relay has already recorded a death for them.
    """
    last = {*Attempt.PUBLISHED_BEFORE, Attempt.Outcome.REFUSED}  # only a retry or replay follows
    if wanted in Attempt.EXCUSED and row.subscription.attempts == 1:
        # With one attempt, a failure that counts ends the delivery, so only a retry follows it. A
        # failure that does not count (open breaker) looks the same, so this counts fewer then.
        last.add(Attempt.Outcome.FAILED)
    attempts = (
        Attempt.objects.using(using)
        .filter(delivery=row)
        .exclude(outcome=Attempt.Outcome.LEASE_LOST)
    )
    found, latest = 0, row.attempts
    for number, outcome in attempts.order_by("-id").values_list("number", "outcome"):
        if number > latest or outcome in last:
            break
        latest, found = number, found + (outcome == wanted)
    return found


def _text_of(error: BaseException) -> str:
    """Return the text of an exception, with the notes that name a function for tenants."""
    try:
        return "; ".join(filter(None, [str(error), *tenants.notes_of(error)]))
    except Exception:
        return "(its text cannot be read)"


def _path(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _storable(text: str) -> str:
    """Escape characters that PostgreSQL does not store: NUL and lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "(its traceback cannot be read)"


def _place(error: BaseException) -> str:
    """Return the innermost line of the project's own code; without one, the innermost line."""
    frames = list(traceback.walk_tb(error.__traceback__))
    # A time limit replaces the exception of interrupted code by its own error. The frames of the
    # cause come first: they count only if the error itself passed through no better frame.
    if error.__cause__ is not None:
        frames = [*traceback.walk_tb(error.__cause__.__traceback__), *frames]
    if not frames:
        return ""
    best = min(_distance(frame) for frame, _line in frames)
    frame, line = [pair for pair in frames if _distance(pair[0]) == best][-1]
    return f"{_module_of(frame)}:{line} {frame.f_code.co_name}"


def _distance(frame: FrameType) -> int:
    """Return the frame's distance from the likely cause; 0 is the project's own code.

    The outbox's wrappers (of statements, of the time limit) are innermost in many tracebacks.
    """
    module = _module_of(frame)
    if guards.is_users(frame.f_code.co_filename):
        return 0
    if module in _NEVER_CAUSES or module.partition(".")[0] in sys.stdlib_module_names:
        return 3
    return 2 if module.startswith(_PROCESS_ROOMS) else 1


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
