"""Operations of staff on events and deliveries, called by the admin and `manage.py outbox`.

`preview` counts what an operation would change. Each operation is stored as an `Operation`, with
the person and the reason, and logged (`outbox.operations`). Long operations work in small
transactions at a bounded rate. `continue_operation` continues one whose process was killed.
"""

from outbox.retention import countable, prunable

from .backfills import BACKFILL_RATE, backfill
from .bulk import chosen, discard, replay, replayable, retry, retryable
from .corrections import CannotCorrect, correct, correct_message
from .dry_run import Preview, preview
from .handler_rows import UnknownHandler, UnknownSubscription, subscriptions_of
from .handlers import HandlerEnded, HeldByBackfill, close_breaker, end, held_by, pause, resume
from .holds import CannotBackfill
from .progress import RATE, GivenUp, StillRunning
from .removal import prune, redact
from .resumption import (
    ABANDONED_AFTER,
    NotAllRedacted,
    NotRunning,
    continue_operation,
    give_up,
    next_step,
    unfinished,
)
from .selection import Choice, described

__all__ = [
    "ABANDONED_AFTER",
    "BACKFILL_RATE",
    "RATE",
    "CannotBackfill",
    "CannotCorrect",
    "Choice",
    "GivenUp",
    "HandlerEnded",
    "HeldByBackfill",
    "NotAllRedacted",
    "NotRunning",
    "Preview",
    "StillRunning",
    "UnknownHandler",
    "UnknownSubscription",
    "backfill",
    "chosen",
    "close_breaker",
    "continue_operation",
    "correct",
    "correct_message",
    "countable",
    "described",
    "discard",
    "end",
    "give_up",
    "held_by",
    "next_step",
    "pause",
    "preview",
    "prunable",
    "prune",
    "redact",
    "replay",
    "replayable",
    "resume",
    "retry",
    "retryable",
    "subscriptions_of",
    "unfinished",
]
