"""The story of one click: its events, their handlers, and each attempt, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from outbox.monitor.sentences import words_of
from outbox.monitor.timeline import (
    TimelineDelivery,
    TimelineEvent,
    timeline_of,
    timeline_of_correlation,
)

MOST_EVENTS = 40
DEEPEST = 4
SETTLED = {"done", "discarded"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One handler's delivery. `look` is done, running, waiting, failing or dead."""

    handler: str
    look: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One event, and the handlers that it calls. `depth` is the number of its causes, up to 4."""

    name: str
    words: str
    emitted_by: str
    depth: int
    is_fanned_out: bool
    calls: Sequence[Call]


@dataclass(frozen=True, kw_only=True)
class Story:
    """All that followed a click; `summary` counts it in one sentence."""

    summary: str
    happenings: Sequence[Happening]


def story_of_click(correlation_id: UUID) -> Story:
    """Return what followed one request."""
    return _story(timeline_of_correlation(correlation_id=correlation_id, most=MOST_EVENTS))


def story_of_order(order_id: UUID) -> Story:
    """Return what followed from the events of one order."""
    return _story(timeline_of(key=str(order_id), most=MOST_EVENTS))


def _story(events: Sequence[TimelineEvent]) -> Story:
    now = timezone.now()
    happenings = [
        Happening(
            name=event.name,
            words=words_of(event),
            emitted_by=event.emitted_by,
            depth=min(event.depth, DEEPEST),
            is_fanned_out=event.fanned_out_at is not None,
            calls=[_call(event, row, now) for row in event.deliveries],
        )
        for event in events
    ]
    return Story(summary=_summary(happenings), happenings=happenings)


def _summary(happenings: Sequence[Happening]) -> str:
    looks = Counter(call.look for one in happenings for call in one.calls)
    events = ngettext("%d event", "%d events", len(happenings)) % len(happenings)
    calls = ngettext("%d handler call", "%d handler calls", looks.total()) % looks.total()
    counts = [
        (looks["done"], _("%d done")),
        (looks["running"], _("%d running")),
        (looks["waiting"], _("%d waiting")),
        (looks["failing"], _("%d failing, to be tried again")),
        (looks["dead"], _("%d given up")),
    ]
    facts = {"events": events, "calls": calls}
    shown = [text % number for number, text in counts if number]
    if not shown:
        return _("%(events)s, %(calls)s.") % facts
    facts["counts"] = pgettext("between numbers", ", ").join(shown)
    return _("%(events)s, %(calls)s: %(counts)s.") % facts


def _call(event: TimelineEvent, row: TimelineDelivery, now: datetime) -> Call:
    look = _look(row)
    return Call(handler=row.receiver, look=look, text=_text(event, row, look, now))


def _look(row: TimelineDelivery) -> str:
    if row.state in SETTLED:
        return "done"
    if row.state == "dead":
        return "dead"
    if row.state == "sent" and row.started_at is not None:
        return "running"
    return "failing" if row.failures else "waiting"


def _text(event: TimelineEvent, row: TimelineDelivery, look: str, now: datetime) -> str:
    if look == "done" and row.settled_at is not None:
        facts = {
            "seconds": f"{(row.settled_at - event.emitted_at).total_seconds():.1f}",
            "attempts": row.attempts,
        }
        if row.attempts > 1:
            return _("done after %(seconds)s s, at attempt %(attempts)d") % facts
        return _("done after %(seconds)s s") % facts
    if look == "failing":
        return _failing(row, now)
    return row.why or row.state


def _failing(row: TimelineDelivery, now: datetime) -> str:
    last, number = list(row.failures)[-1], len(row.failures)
    wait = round((row.due_at - now).total_seconds())
    times = ngettext("failed %d time", "failed %d times", number) % number
    facts = {
        "times": times,
        "error": last.exception.rpartition(".")[2] or last.outcome,
        "wait": wait,
    }
    if wait <= 0:
        return _("%(times)s (%(error)s), next attempt now") % facts
    return _("%(times)s (%(error)s), next attempt in %(wait)d s") % facts
