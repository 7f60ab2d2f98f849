"""The book of the handlers. Each effect is one row, or one line for an effect outside."""

import os
from pathlib import Path

from till.models import Entry
from till.release import RELEASE

from outbox import EventRecord

#: Calls of a system outside, one line each.
CALLS = Path(os.environ["CALLS"])


def write(effect: str, event: EventRecord, *, amount: int = 0) -> None:
    """Write an effect into the book, in the handler's transaction."""
    Entry.objects.create(
        effect=effect,
        order=event.key,
        amount=amount,
        emitted_with=event.payload["emitted_with"],
        handled_with=RELEASE,
    )


def call(order: str) -> None:
    """Write a line that no transaction can take back."""
    with CALLS.open("a") as file:
        file.write(f"{order}\n")
