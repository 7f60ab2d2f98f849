"""Sentences for `diagnosis.why` about deliveries that are done, discarded or dead."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.formatting import format_time, one_line
from outbox.models import Attempt, Delivery
from outbox.settlements.status import statuses_of_deliveries

from . import messages

State = Delivery.State
Outcome = Attempt.Outcome

#: Without a lost lease, which is already recorded as a death, and without replayed ones.
_FAILED = (Outcome.FAILED, Outcome.REFUSED, Outcome.DIED)


def done(delivery: Delivery, _now: datetime) -> str:
    """Name the time, the worker and the number of runs before the successful one."""
    failed, excused = _failed(delivery)
    text = _("Done at %(when)s by worker %(worker)s, %(before)s.") % {
        "when": _time_or_unknown(delivery.settled_at),
        "worker": delivery.worker or "?",
        "before": _runs_before(failed, excused),
    }
    return _with(text, *_settlements(delivery), messages.result_of(delivery))


def _settlements(delivery: Delivery) -> list[str]:
    """Return a sentence for each consumer of a sink's delivery; none for other deliveries."""
    if not delivery.subscription.consumers:
        return []
    using = str(delivery._state.db)
    found = statuses_of_deliveries([delivery.pk], using=using).get(delivery.pk, ())
    return [f"{one.text}." for one in found]


def _with(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _runs_before(failed: int, excused: int) -> str:
    """Describe the number of runs before the successful one."""
    parts = []
    if failed:
        # Not "attempts": a failure while a breaker is open uses up no attempt.
        text = ngettext("after %(n)d failed run", "after %(n)d failed runs", failed)
        parts.append(text % {"n": failed})
    if excused:
        text = ngettext(
            "after %(n)d run that used up no attempt, because the database failed or could not be "
            "reached",
            "after %(n)d runs that used up no attempt, because the database failed or could not "
            "be reached",
            excused,
        )
        parts.append(text % {"n": excused})
    return _(" and ").join(parts) or _("at the first attempt")


def discarded(delivery: Delivery, _now: datetime) -> str:
    """Name the time and the reason."""
    text = _("Discarded at %(when)s: %(note)s.") % {
        "when": _time_or_unknown(delivery.settled_at),
        "note": one_line(delivery.note) or _("no reason given"),
    }
    return _with(text, messages.result_of_correction(delivery))


def dead(delivery: Delivery, _now: datetime) -> str:
    """Name the last failure, its place, and the command that retries the delivery."""
    last = _last_failure(delivery)
    if last is not None and last.outcome in Attempt.EXCUSED:
        return _overtaken(delivery, last)
    if last is not None and last.outcome == Attempt.Outcome.UNSETTLED:
        return _unsettled(delivery, last)
    if last is not None and last.outcome == Attempt.Outcome.REFUSED:
        text = _("Dead: the handler refused it at %(when)s with %(error)s.")
    else:
        text = ngettext(
            "Dead after %(n)d attempt, at %(when)s: %(error)s.",
            "Dead after %(n)d attempts, the last at %(when)s: %(error)s.",
            delivery.attempts,
        )
    step = _("Fix the cause, then retry it in the admin or by `manage.py outbox retry %(id)d`.")
    facts = {
        "n": delivery.attempts,
        "when": _time_or_unknown(last.ended_at if last else None),
        "error": _error(delivery, last),
        "id": delivery.pk,
    }
    return _with(f"{text} {step}" % facts, messages.correction_of(delivery))


def _unsettled(delivery: Delivery, last: Attempt) -> str:
    """Explain a delivery that was published, and that a consumer has not settled."""
    text = _(
        "Dead since %(when)s: it was published, and %(error)s. Check whether the consumer receives "
        "the event, and whether a source receives its reports. A late report makes it done. To "
        "publish it again: `manage.py outbox retry %(id)d`."
    )
    return text % {
        "when": format_time(last.ended_at),
        "error": one_line(last.message) or _("no reason recorded"),
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
        "Dead without a used attempt: its worker lost the database at %(when)s and is alive. "
        "Meanwhile %(later)s ran, so a retry runs this delivery out of order. If the handler can "
        "run out of order: `manage.py outbox retry %(id)d`. Otherwise: `manage.py outbox discard "
        "%(id)d`."
    )
    named = _("delivery %(later)d, of a later event of its key,") % {"later": first or 0}
    return text % {
        "when": format_time(last.ended_at),
        "later": named if first else _("a later event of its key"),
        "id": delivery.pk,
    }


def _error(delivery: Delivery, last: Attempt | None) -> str:
    text = one_line(delivery.note) or _("no reason recorded")
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
