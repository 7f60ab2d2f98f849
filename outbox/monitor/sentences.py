"""A timeline in plain sentences, one per event: what happened, in how many attempts, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from django.utils.translation import get_language, ngettext, pgettext
from django.utils.translation import gettext as _
from pydantic import ValidationError

from outbox.contracts.upcasting import NotUpcast, as_event, current_payload, is_newer
from outbox.events import DomainEvent, find, words_of_name
from outbox.privacy.sensitive import masked_text

from .timeline import TimelineDelivery, TimelineEvent

logger = logging.getLogger("outbox.monitor")


@dataclass(frozen=True)
class Sentence:
    """The sentence of one event, those of its deliveries that are still owed, and its settlements.

    Attributes:
        settlements: "billing: done after 1.2 s", one for each consumer of a sink.
    """

    event: TimelineEvent
    text: str
    owed: Sequence[TimelineDelivery]
    settlements: Sequence[str] = ()


def sentences_of(
    events: Sequence[TimelineEvent], *, span: Callable[[timedelta], str]
) -> list[Sentence]:
    """Return a sentence for each event of a timeline, in its order.

    "Payment authorized ¥12,800, after 2 attempts, 1.3 s after order placed." The first words are
    those of `DomainEvent.in_words`.

    Args:
        events: of one timeline, the first one first.
        span: formats a length of time.
    """
    return list(_sentences(events, span)) if events else []


def _sentences(
    events: Sequence[TimelineEvent], span: Callable[[timedelta], str]
) -> Iterator[Sentence]:
    first, by_id = events[0], {event.id: event for event in events}
    for event in events:
        parts = [words_of(event), _effort(event, by_id)]
        if event is not first:
            facts = {"span": span(event.emitted_at - first.emitted_at), "first": _inner(first)}
            parts.append(_("%(span)s after %(first)s") % facts)
        owed = [one for one in event.deliveries if one.state not in ("done", "discarded")]
        settlements = [one.text for row in event.deliveries for one in row.settlements]
        yield Sentence(event, _sentence(filter(None, parts)), owed, settlements)


def _sentence(parts: Iterable[str]) -> str:
    """Join parts with the punctuation of the current language."""
    return _("%(parts)s.") % {"parts": pgettext("between parts of a sentence", ", ").join(parts)}


def words_of(event: TimelineEvent) -> str:
    """Return the event's `in_words`, or the words of its name: "Stock reserved".

    The name is used if this code does not declare the event or its version, cannot read its
    payload, or fails to describe it.
    """
    declared = find(event.name)
    if declared is not None and not is_newer(event):
        try:
            return _own_words(declared, event)
        except (NotUpcast, ValidationError):  # of an older version, or redacted
            pass
        except Exception as error:  # `in_words` and validators are code of the project
            logger.warning(
                "The timeline cannot describe the event %s (%s) by its in_words(): %s.",
                event.name,
                event.id,
                type(error).__name__,
            )
    return words_of_name(event.name)


def _own_words(declared: type[DomainEvent], event: TimelineEvent) -> str:
    payload = current_payload(event)
    text = as_event(declared, payload).in_words()
    current = replace(event, payload=payload, version=declared.event_version)
    return masked_text(masked_text(text, current), event)  # an upcaster may rewrite a value


def _inner(event: TimelineEvent) -> str:
    """Return the words of its name, which are English; in other languages the name itself."""
    if not (get_language() or "en").startswith("en"):
        return event.name
    words = words_of_name(event.name)
    return words[:1].lower() + words[1:]


def _effort(event: TimelineEvent, by_id: dict[UUID, TimelineEvent]) -> str:
    """Return the number of attempts of the emitting handler in words; "" for the first one."""
    cause = by_id.get(event.causation_id) if event.causation_id else None
    made = [one for one in cause.deliveries if one.handler == event.emitted_by] if cause else []
    attempts = max((one.attempts for one in made), default=0)
    if attempts < 2:
        return ""
    return ngettext("after %d attempt", "after %d attempts", attempts) % attempts
