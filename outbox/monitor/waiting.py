"""Sentences for `diagnosis.why` about deliveries that wait: parked, blocked, pending or sent."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.deliveries import heartbeat, shares
from outbox.deliveries.pauses import held_pause_text, holding_backfill
from outbox.formatting import format_time, one_line, span
from outbox.models import Delivery, Subscription

State = Delivery.State

#: The relay and an idle worker need at most this long; a longer wait needs an explanation.
PATIENCE = timedelta(seconds=5)

_COUNTED = 1000


def parked(delivery: Delivery, _now: datetime) -> str:
    """Name who paused the handler, or that the code lacks it, and the next step."""
    return _held(delivery.subscription) or _(
        "Was parked; its handler runs again, and the relay takes it up next."
    )


def blocked(delivery: Delivery, _now: datetime) -> str:
    """Name the delivery that blocks it: of an earlier event of its key, or a running one."""
    first = _first_of_its_key(delivery)
    if first is None and (other := _running_of_its_key(delivery)):
        text = _(
            "Blocked: delivery %(id)d of its key is in hand; they run one after the other. See "
            "`manage.py outbox why %(id)d`."
        )
        return text % {"id": other.pk}
    if first is None:
        return _("Blocked: an earlier event of its key waited; the relay looks again soon.")
    text = _(
        "Blocked: delivery %(id)d, of an earlier event of its key, comes first (%(state)s). See "
        "`manage.py outbox why %(id)d`."
    )
    return text % {"id": first.pk, "state": first.get_state_display()}


def _first_of_its_key(delivery: Delivery) -> Delivery | None:
    rows = Delivery.objects.using(delivery._state.db)
    handler = delivery.subscription.handler
    earlier = rows.filter(order_key=delivery.order_key, event__lt=delivery.event_id)
    mine = earlier.filter(subscription__handler=handler, state__in=Delivery.OWED)
    return mine.order_by("event").first()


def _running_of_its_key(delivery: Delivery) -> Delivery | None:
    rows = Delivery.objects.using(delivery._state.db).exclude(pk=delivery.pk)
    mine = rows.filter(
        order_key=delivery.order_key, subscription__handler=delivery.subscription.handler
    )
    return mine.filter(state=State.SENT, started_token=F("token")).first()


def pending(delivery: Delivery, now: datetime) -> str:
    """Name what it waits for: its handler, its backoff, room in the window, or the relay."""
    held = _held(delivery.subscription)
    if held:
        return held
    if delivery.subscription.breaker_opened_at is not None:
        return _breaker_open(delivery.subscription)
    return _backing_off(delivery, now) if delivery.due_at > now else _due(delivery, now)


def sent(delivery: Delivery, now: datetime) -> str:
    """Name the worker that runs it, or the queue of its message."""
    return _started(delivery, now) if delivery.is_started else _unstarted(delivery, now)


def _held(row: Subscription) -> str:
    facts = {"handler": row.handler, "event": row.event}
    if not row.active:
        text = _("Not sent: the subscription of %(handler)s to %(event)s has ended.")
    elif not row.known:
        text = _(
            "Parked: the code that was last migrated has no handler %(handler)s for %(event)s; "
            "deploy and migrate a release that has it, or name it in the `formerly=` of its heir."
        )
    elif row.paused_at is not None:
        return _paused(row)
    else:
        return ""
    return text % facts


def _breaker_open(row: Subscription) -> str:
    assert row.breaker_opened_at is not None
    text = _(
        "Held: the breaker of %(handler)s is open since %(since)s (%(reason)s); the next probe is "
        "sent at %(probe)s, and none of its attempts is used up meanwhile."
    )
    return text % {
        "handler": row.handler,
        "since": format_time(row.breaker_opened_at),
        "reason": one_line(row.breaker_reason) or _("no reason was recorded"),
        "probe": format_time(row.breaker_probe_at or row.breaker_opened_at),
    }


def _paused(row: Subscription) -> str:
    assert row.paused_at is not None
    backfill = holding_backfill([row], using=str(row._state.db))
    if backfill is not None:
        # Without a time: a pause that was taken over has kept the time of the backfill.
        by, reason = row.paused_by, row.pause_reason
        held = held_pause_text(row.handler, backfill.pk, backfill.seen_at, by=by, reason=reason)
        return _("Parked: %(held)s") % {"held": held}
    text = _(
        "Parked: %(by)s paused %(handler)s at %(when)s (%(reason)s); "
        "`manage.py outbox resume %(handler)s` lets it go on."
    )
    return text % {
        "by": row.paused_by or _("someone"),
        "handler": row.handler,
        "when": format_time(row.paused_at),
        "reason": one_line(row.pause_reason) or _("no reason was given"),
    }


def _backing_off(delivery: Delivery, now: datetime) -> str:
    text = _("Sent again at %(when)s, in %(span)s: %(note)s.")
    if delivery.attempts:
        text = ngettext(
            "Tried again at %(when)s, in %(span)s, after %(n)d attempt: %(note)s.",
            "Tried again at %(when)s, in %(span)s, after %(n)d attempts: %(note)s.",
            delivery.attempts,
        )
    return text % {
        "n": delivery.attempts,
        "note": one_line(delivery.note) or _("no reason was recorded"),
        "when": format_time(delivery.due_at),
        "span": span(delivery.due_at - now),
    }


def _due(delivery: Delivery, now: datetime) -> str:
    queued = _share_is_full(delivery, now) or _queued(delivery, now)
    waited = now - delivery.due_at
    if queued:
        return queued
    if waited < PATIENCE:
        return _just_due(delivery)
    text = _("Due for %(span)s and not yet sent; %(clue)s")
    if delivery.note:
        text = _("Due for %(span)s and not yet sent (%(note)s); %(clue)s")
    clue = heartbeat.relay_clue(now, using=delivery._state.db)
    return text % {"span": span(waited), "note": one_line(delivery.note), "clue": clue}


def _share_is_full(delivery: Delivery, now: datetime) -> str:
    """Explain a delivery whose share has a full `share_window`; "" otherwise."""
    row = delivery.subscription
    if delivery.share is None or row.share_window is None:
        return ""
    number = shares.in_flight(row, now=now, using=str(delivery._state.db))[delivery.share]
    if number < row.share_window:
        return ""
    text = ngettext(
        "Waits for its share: %(share)s has %(n)d delivery of %(handler)s in flight, the most "
        "(share_window).",
        "Waits for its share: %(share)s has %(n)d deliveries of %(handler)s in flight, the most "
        "(share_window).",
        number,
    )
    return text % {"share": delivery.share, "n": number, "handler": row.handler}


def _just_due(delivery: Delivery) -> str:
    note = one_line(delivery.note)
    if not delivery.attempts:
        text = _("Due now (%(note)s); the relay sends it next.")
        return text % {"note": note} if note else _("Due now; the relay sends it next.")
    text = ngettext(
        "Due again now, after %(n)d attempt: %(note)s. The relay sends it next.",
        "Due again now, after %(n)d attempts: %(note)s. The relay sends it next.",
        delivery.attempts,
    )
    return text % {"n": delivery.attempts, "note": note or _("no reason was recorded")}


def _queued(delivery: Delivery, now: datetime) -> str:
    """Count what is in flight and due earlier; "" if nothing keeps the relay from sending.

    If nothing is in flight, deliveries due earlier are no reason: then the relay does not run.
    """
    row = delivery.subscription
    mine = Delivery.objects.using(delivery._state.db).filter(subscription=row)
    in_flight = mine.filter(state=State.SENT, due_at__gt=now).count()
    if not in_flight:
        return ""
    earlier = mine.filter(state=State.PENDING, due_at__lt=delivery.due_at)
    before = len(earlier.values_list("pk")[:_COUNTED])
    if not before and in_flight < row.window_now:
        return ""
    text = _(
        "Waits its turn: %(in_flight)d of at most %(window)d deliveries of %(handler)s are in "
        "flight, and %(before)s are due before this one."
    )
    return text % {
        "in_flight": in_flight,
        "window": row.window_now,
        "handler": row.handler,
        "before": before if before < _COUNTED else _("%d or more") % before,
    }


def _started(delivery: Delivery, now: datetime) -> str:
    text = _("Worker %(worker)s has it since %(since)s (attempt %(n)d), leased until %(until)s.")
    if delivery.due_at <= now:
        text = _(
            "Worker %(worker)s has it since %(since)s and its lease passed at %(until)s: the "
            "worker died, or the handler needs a longer lease, or it cannot reach the database; "
            "the relay has it tried again."
        )
    return text % {
        "worker": delivery.worker or "?",
        "since": format_time(delivery.started_at) if delivery.started_at else "?",
        "until": format_time(delivery.due_at),
        "n": delivery.attempts,
    }


def _unstarted(delivery: Delivery, now: datetime) -> str:
    queue, clue = delivery.subscription.queue, ""
    waited = now - (delivery.due_at - timedelta(seconds=delivery.subscription.lease_seconds))
    busy = _busy(queue, now, using=delivery._state.db)
    if delivery.due_at <= now:
        text = _(
            "No worker of the queue %(queue)s started it by %(until)s; the relay sends it again; "
            "%(clue)s"
        )
        clue = _clue(queue, now, using=delivery._state.db)
    elif busy:
        text = ngettext(
            "Its message is in the queue %(queue)s for %(span)s, whose workers have %(busy)d other "
            "in hand; sent again after %(until)s.",
            "Its message is in the queue %(queue)s for %(span)s, whose workers have %(busy)d "
            "others in hand; sent again after %(until)s.",
            busy,
        )
    elif waited < PATIENCE:
        text = _("Just sent to the queue %(queue)s; a worker starts it next.")
    else:
        text = _unstarted_for_long(delivery.token)
        clue = heartbeat.worker_clue(queue, now, using=delivery._state.db)
    return text % {
        "queue": queue,
        "span": span(waited),
        "until": format_time(delivery.due_at),
        "busy": busy,
        "n": delivery.token,
        "clue": clue,
    }


def _clue(queue: str, now: datetime, *, using: str | None) -> str:
    """Return the clue about the queue's workers if they are silent, otherwise about the relay."""
    if heartbeat.latest(heartbeat.Kind.WORKER, queue=queue, using=using).is_fresh:
        return heartbeat.relay_clue(now, using=using)
    return heartbeat.worker_clue(queue, now, using=using)


def _unstarted_for_long(times: int) -> str:
    return ngettext(
        "Its message is in the queue %(queue)s for %(span)s (sent %(n)d time so far), sent again "
        "after %(until)s, and no worker started it; %(clue)s",
        "Its message is in the queue %(queue)s for %(span)s (sent %(n)d times so far), sent again "
        "after %(until)s, and no worker started it; %(clue)s",
        times,
    )


def _busy(queue: str, now: datetime, *, using: str | None) -> int:
    """Count the running deliveries of a queue; its handlers' windows bound the query."""
    started = Delivery.objects.using(using).filter(state=State.SENT, started_token=F("token"))
    return started.filter(subscription__queue=queue, due_at__gt=now).count()
