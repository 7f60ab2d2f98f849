"""What a person may do. The admin and the command call this.

Each action says what it would touch (`preview`), is recorded with who and why (`Operation`), and
says so in the log (`outbox.actions`). The long ones work in small transactions, at a bounded rate,
and go on where they were when they were killed (`go_on`).
"""

from outbox.retention import countable, prunable

from .backfilling import BACKFILL_RATE, backfill
from .bulk import chosen, discard, replay, replayable, retry, retryable
from .choice import Choice, described
from .correcting import CannotCorrect, correct
from .handlers import (
    HeldByBackfill,
    UnknownHandler,
    close_breaker,
    end,
    held_by,
    pause,
    resume,
    subscriptions_of,
)
from .holding import CannotBackfill
from .operations import RATE, StillRunning
from .previewing import Preview, preview
from .pruning import prune
from .redacting import redact
from .resuming import SILENCE, NotRunning, give_up, go_on, next_step, unfinished

__all__ = [
    "BACKFILL_RATE",
    "RATE",
    "SILENCE",
    "CannotBackfill",
    "CannotCorrect",
    "Choice",
    "HeldByBackfill",
    "NotRunning",
    "Preview",
    "StillRunning",
    "UnknownHandler",
    "backfill",
    "chosen",
    "close_breaker",
    "correct",
    "countable",
    "described",
    "discard",
    "end",
    "give_up",
    "go_on",
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
