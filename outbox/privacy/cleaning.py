"""Mask personal data in texts that quote it: messages and tracebacks of failures, and notes.

Three kinds are masked: values of the event's sensitive fields, values that apps declare for the
event's subject, and everything that resembles an e-mail address or a long number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import transaction

from outbox import databases, tenants
from outbox.models import Event

from .marks import MASK
from .masking import masked_patterns, masked_values, traceback_without_messages
from .sensitive import sensitive_values
from .subjects import DeclarationFailed, registry, subjects_of, values_of

logger = logging.getLogger("outbox.sensitive")

#: A text may be huge. Before the search it is cut to so many times the length that is kept.
_SEARCHED = 4
#: Number of characters that are dropped at the cut, since the cut may divide a value.
_DROPPED = 320


class Cleaner:
    """Masks personal data in texts. It never raises.

    Args:
        values: the values to mask, in addition to the patterns.
        refusal: returned in place of every text if the values could not be read.
    """

    def __init__(self, values: Iterable[str], *, refusal: str = "") -> None:
        self._values = set(values)
        self._refusal = refusal

    def clean(self, text: str, *, longest: int) -> str:
        """Return the first `longest` characters of a text, with "***" for personal data."""
        if self._refusal:
            return self._refusal[:longest]
        window = text[: longest * _SEARCHED]
        cleaned = self._masked(window)
        return (cleaned if window == text else cleaned[:-_DROPPED])[:longest]

    def clean_end(self, text: str, *, longest: int) -> str:
        """Return the last `longest` characters of a text, with "***" for personal data."""
        if self._refusal:
            return self._refusal[:longest]
        window = text[-longest * _SEARCHED :]
        cleaned = self._masked(window)
        return (cleaned if window == text else cleaned[_DROPPED:])[-longest:]

    def _masked(self, text: str) -> str:
        try:
            return masked_patterns(masked_values(text, self._values, mask=MASK))
        except Exception as error:
            logger.error(
                "A text could not be searched for personal data.\n%s",
                traceback_without_messages(error),
            )
            return (
                f"(not shown: it could not be searched for personal data: {type(error).__name__})"
            )


def cleaner_for(*events: Event, using: str | None = None, has_subjects: bool = True) -> Cleaner:
    """Return the cleaner for texts about these events.

    It reads the values that identify their subjects. If that fails, the cleaner returns a refusal
    in place of each text: a text that may name a person is neither stored nor logged.

    Args:
        events: stored events.
        using: the outbox's database alias; a failed query leaves its transaction usable.
        has_subjects: read the values of the subjects. Not after a failure to restore the tenant:
            that would fail again and hide the cause, which no handler's code has raised.
    """
    values: set[str] = set()
    try:
        using = using or databases.alias()
        # Functions of the project read the rows of the database that has the events.
        with databases.serving(using), transaction.atomic(using=using):
            for event in events:
                values.update(map(str, sensitive_values(event)))
                if has_subjects:
                    values.update(_values_of_subjects(event))
    except Exception as error:
        ids = ", ".join(str(event.id) for event in events)
        is_declared = isinstance(error, DeclarationFailed)
        why = str(error) if is_declared else type(error).__name__
        reason = f"the personal data of event {ids} could not be read: {why}"
        level = logging.ERROR if is_declared else logging.WARNING
        logger.log(level, "A text is not shown: %s\n%s", reason, traceback_without_messages(error))
        return Cleaner((), refusal=f"(not shown: {reason})")
    return Cleaner(values)


def _values_of_subjects(event: Event) -> set[str]:
    """Return the personal data of an event's subjects.

    Declared functions read the rows of the event's tenant: those that find the subject of a key,
    and those that read its values.
    """
    finds_by_rows = any(one.of_key is not None for one in registry)
    if not finds_by_rows and not subjects_of(event):  # no function would be called
        return set()
    # The failure of a process without the setting names the setting, and must be shown.
    with tenants.restored(event.tenant if tenants.is_on() else None):
        return {str(value) for subject in subjects_of(event) for value in values_of(subject)}
