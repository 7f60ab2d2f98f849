"""One sentence on why a delivery is in its state and, if it is stuck, the next step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.deliveries import heartbeat
from outbox.formatting import format_time, one_line, span
from outbox.models import Attempt, DelayedEvent, Delivery, Event

from . import waiting

State = Delivery.State
Outcome = Attempt.Outcome

#: Without a lost lease, which is already recorded as a death, and without replayed ones.
_FAILED = (Outcome.FAILED, Outcome.REFUSED, Outcome.DIED)


def why(delivery: Delivery) -> str:
    """Explain in one sentence why a delivery is in its state and, if it is stuck, what to do.

    Cost: at most four small queries, independent of history. Fetch the delivery with
    `select_related("subscription")`. Fetch many with `prefetch_related("failures")`, too.
    """
    return _SENTENCES[State(delivery.state)](delivery, clock.now())


def why_event(event: Event) -> str:
    """Describe an event's progress in one sentence: waiting for fan-out, owed or settled."""
    if event.fanned_out_at is None:
        return _not_fanned_out(clock.now() - event.emitted_at, using=event._state.db)
    states = list(event.deliveries.values_list("state", flat=True))
    text = _("Fanned out at %(when)s; no handler heard it.")
    if states:
        text = _("Fanned out at %(when)s; %(settled)d of %(all)d deliveries are settled.")
    return text % {
        "when": format_time(event.fanned_out_at),
        "settled": sum(state in Delivery.SETTLED for state in states),
        "all": len(states),
    }


def why_delayed(delayed: DelayedEvent) -> str:
    """Describe in one sentence when a delayed event is emitted, or why a due one is not yet."""
    using = delayed._state.db
    now = clock.now(using=using)
    left, when = delayed.due_at - now, format_time(delayed.due_at)
    if left > timedelta(0):
        text = _("Emitted at %(when)s, in %(span)s; no handler is called before.")
        return text % {"when": when, "span": span(left)}
    if -left < waiting.PATIENCE:
        return _("Due since %(when)s; the relay emits it next.") % {"when": when}
    text = _("Due since %(when)s, for %(span)s, and not emitted; %(clue)s")
    clue = heartbeat.relay_clue(now, using=using)
    return text % {"when": when, "span": span(-left), "clue": clue}


def _not_fanned_out(waited: timedelta, *, using: str | None) -> str:
    if waited < waiting.PATIENCE:
        return _("Emitted a moment ago; the relay makes its deliveries next.")
    text = _("Emitted %(span)s ago and not fanned out; %(clue)s")
    return text % {
        "span": span(waited),
        "clue": heartbeat.relay_clue(clock.now(using=using), using=using),
    }


def _done(delivery: Delivery, _now: datetime) -> str:
    failed, excused = _failed(delivery)
    return _("Done at %(when)s by worker %(worker)s, %(before)s.") % {
        "when": _time_or_unknown(delivery.settled_at),
        "worker": delivery.worker or "?",
        "before": _runs_before(failed, excused),
    }


def _runs_before(failed: int, excused: int) -> str:
    """Describe the number of runs before the successful one."""
    parts = []
    if failed:
        # Not "attempts": a failure while a breaker is open uses up no attempt.
        text = ngettext("after %(n)d failed run", "after %(n)d failed runs", failed)
        parts.append(text % {"n": failed})
    if excused:
        text = ngettext(
            "after %(n)d run that used up no attempt, since the database failed or could not be "
            "reached",
            "after %(n)d runs that used up no attempt, since the database failed or could not be "
            "reached",
            excused,
        )
        parts.append(text % {"n": excused})
    return _(" and ").join(parts) or _("at the first attempt")


def _discarded(delivery: Delivery, _now: datetime) -> str:
    return _("Discarded at %(when)s: %(note)s.") % {
        "when": _time_or_unknown(delivery.settled_at),
        "note": one_line(delivery.note) or _("no reason was given"),
    }


def _dead(delivery: Delivery, _now: datetime) -> str:
    last = _last_failure(delivery)
    if last is not None and last.outcome in Attempt.EXCUSED:
        return _overtaken(delivery, last)
    if last is not None and last.outcome == Attempt.Outcome.REFUSED:
        text = _(
            "Dead: refused for good at %(when)s with %(error)s; when the cause is gone, try it "
            "again in the admin or by `manage.py outbox retry %(id)d`."
        )
    else:
        text = ngettext(
            "Dead after %(n)d attempt, at %(when)s: %(error)s; when the cause is gone, try it "
            "again in the admin or by `manage.py outbox retry %(id)d`.",
            "Dead after %(n)d attempts, the last at %(when)s: %(error)s; when the cause is gone, "
            "try it again in the admin or by `manage.py outbox retry %(id)d`.",
            delivery.attempts,
        )
    return text % {
        "n": delivery.attempts,
        "when": _time_or_unknown(last.ended_at if last else None),
        "error": _error(delivery, last),
        "id": delivery.pk,
    }


def _overtaken(delivery: Delivery, last: Attempt) -> str:
    """Explain a withdrawn death of an ordered handler with `on_dead="pass"`."""
    mine = Delivery.objects.using(delivery._state.db).filter(
        subscription__handler=delivery.subscription.handler,
        event__key=delivery.event.key,
        event__gt=delivery.event_id,
    )
    later = mine.filter(Q(state=State.DONE) | Q(state=State.SENT, started_token=F("token")))
    first = later.order_by("event").values_list("pk", flat=True).first()
    text = _(
        "Dead, and no attempt is used up: at %(when)s its worker lost the database, and is alive; "
        "%(later)s ran before it. To run it now is to run it after that one, out of order. If its "
        "handler bears that: `manage.py outbox retry %(id)d`; else `manage.py outbox discard "
        "%(id)d`."
    )
    named = _("delivery %(later)d, of a later event of its key,") % {"later": first or 0}
    return text % {
        "when": format_time(last.ended_at),
        "later": named if first else _("a later event of its key"),
        "id": delivery.pk,
    }


def _error(delivery: Delivery, last: Attempt | None) -> str:
    text = one_line(delivery.note) or _("no reason was recorded")
    return f"{text} ({last.place})" if last is not None and last.place else text


def _time_or_unknown(when: datetime | None) -> str:
    return format_time(when) if when else _("an unknown time")


def _last_failure(delivery: Delivery) -> Attempt | None:
    if _is_prefetched(delivery):
        return max(delivery.failures.all(), key=lambda attempt: attempt.pk, default=None)
    return delivery.failures.order_by("-id").first()


def _failed(delivery: Delivery) -> tuple[int, int]:
    """Return the number of failed runs, and of runs that failed because of the database."""
    if _is_prefetched(delivery):
        outcomes = [attempt.outcome for attempt in delivery.failures.all()]
    else:
        outcomes = list(delivery.failures.values_list("outcome", flat=True))
    return (
        sum(outcome in _FAILED for outcome in outcomes),
        sum(outcome in Attempt.EXCUSED for outcome in outcomes),
    )


def _is_prefetched(delivery: Delivery) -> bool:
    return "failures" in getattr(delivery, "_prefetched_objects_cache", {})


_SENTENCES: dict[State, Callable[[Delivery, datetime], str]] = {
    State.PENDING: waiting.pending,
    State.SENT: waiting.sent,
    State.DONE: _done,
    State.DEAD: _dead,
    State.DISCARDED: _discarded,
    State.PARKED: waiting.parked,
    State.BLOCKED: waiting.blocked,
}
