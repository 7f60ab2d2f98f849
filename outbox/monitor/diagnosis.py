"""One sentence on why a delivery is in its state and, if it is stuck, the next step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db.models import F
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.deliveries import shares
from outbox.deliveries.decisions import message_size
from outbox.deliveries.pauses import holding_backfill
from outbox.formatting import format_time, one_line, span
from outbox.models import DelayedEvent, Delivery, Event, Subscription

from . import finished
from .health import Heartbeats
from .stops import Stop, stop_of

State = Delivery.State

#: The relay and an idle worker need at most this long; a longer wait needs an explanation.
PATIENCE = timedelta(seconds=5)

_COUNTED = 1000


def why(delivery: Delivery) -> str:
    """Explain in one sentence why a delivery is in its state and, if it is stuck, what to do.

    Cost: at most four small queries, independent of history. Fetch the delivery with
    `select_related("subscription")`. Fetch many with `prefetch_related("failures")`, too.
    """
    return _SENTENCES[State(delivery.state)](delivery, clock.now(using=delivery._state.db))


def why_event(event: Event) -> str:
    """Describe an event's progress in one sentence: waiting for fan-out, owed or settled."""
    if event.fanned_out_at is None:
        using = event._state.db
        return _not_fanned_out(clock.now(using=using) - event.emitted_at, using=using)
    states = list(event.deliveries.values_list("state", flat=True))
    text = _("Fanned out at %(when)s; no handler subscribes to it.")
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
    if -left < PATIENCE:
        return _("Due since %(when)s; the relay emits it next.") % {"when": when}
    text = _("Due since %(when)s, for %(span)s, and not emitted. %(clue)s")
    return text % {"when": when, "span": span(-left), "clue": Heartbeats(using=using).relay_clue()}


def _not_fanned_out(waited: timedelta, *, using: str | None) -> str:
    if waited < PATIENCE:
        return _("Just emitted; the relay creates its deliveries next.")
    text = _("Emitted %(span)s ago and not fanned out. %(clue)s")
    return text % {"span": span(waited), "clue": Heartbeats(using=using).relay_clue()}


def _stop(delivery: Delivery) -> Stop | None:
    row = delivery.subscription
    return stop_of(row, holding_backfill([row], using=str(row._state.db)))


def _parked(delivery: Delivery, _now: datetime) -> str:
    if stop := _stop(delivery):
        return _("Parked: %(stop)s") % {"stop": stop.text}
    return _("Was parked; its handler runs again, and the relay sends it next.")


def _blocked(delivery: Delivery, _now: datetime) -> str:
    first = _first_of_its_key(delivery)
    if first is None and (other := _running_of_its_key(delivery)):
        text = _(
            "Blocked: delivery %(id)d of its key is running, and a key has one running delivery "
            "at a time. See `manage.py outbox why %(id)d`."
        )
        return text % {"id": other.pk}
    if first is None:
        return _("Blocked until now by an earlier event of its key; the relay rechecks it soon.")
    text = _(
        "Blocked by delivery %(id)d, of an earlier event of its key (%(state)s). See `manage.py "
        "outbox why %(id)d`."
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


def _pending(delivery: Delivery, now: datetime) -> str:
    if stop := _stop(delivery):
        return _("Not sent: %(stop)s") % {"stop": stop.text}
    return _backing_off(delivery, now) if delivery.due_at > now else _due(delivery, now)


def _backing_off(delivery: Delivery, now: datetime) -> str:
    text = _("Sent again at %(when)s, in %(span)s: %(note)s.")
    if delivery.attempts:
        text = ngettext(
            "Retried at %(when)s, in %(span)s, after %(n)d attempt: %(note)s.",
            "Retried at %(when)s, in %(span)s, after %(n)d attempts: %(note)s.",
            delivery.attempts,
        )
    return text % {
        "n": delivery.attempts,
        "note": one_line(delivery.note) or _("no reason recorded"),
        "when": format_time(delivery.due_at),
        "span": span(delivery.due_at - now),
    }


def _due(delivery: Delivery, now: datetime) -> str:
    queued = _share_is_full(delivery) or _queued(delivery, now)
    waited = now - delivery.due_at
    if queued:
        return queued
    if waited < PATIENCE:
        return _just_due(delivery)
    text = _("Due for %(span)s and not sent. %(clue)s")
    if delivery.note:
        text = _("Due for %(span)s and not sent (%(note)s). %(clue)s")
    clue = Heartbeats(using=delivery._state.db).relay_clue()
    return text % {"span": span(waited), "note": one_line(delivery.note), "clue": clue}


def _share_is_full(delivery: Delivery) -> str:
    """Explain a delivery whose share has a full `share_window`; "" otherwise."""
    row = delivery.subscription
    if delivery.share is None or row.share_window is None:
        return ""
    number = shares.in_flight(row, using=str(delivery._state.db))[delivery.share]
    if number < row.share_window:
        return ""
    text = ngettext(
        "Waits for its share: %(share)s has %(n)d delivery of %(handler)s in flight, the maximum "
        "(share_window).",
        "Waits for its share: %(share)s has %(n)d deliveries of %(handler)s in flight, the maximum "
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
    return text % {"n": delivery.attempts, "note": note or _("no reason recorded")}


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
        return _remainder(row, in_flight)
    text = _(
        "Waits because the handler's window is full: %(in_flight)d of at most %(window)d "
        "deliveries of %(handler)s are with the broker or a worker, and %(before)s are due before "
        "this one."
    )
    if in_flight < row.window_now:
        text = _(
            "Waits for deliveries of %(handler)s that are due before this one: %(before)s. With "
            "the broker or a worker are %(in_flight)d of at most %(window)d."
        )
    return text % {
        "in_flight": in_flight,
        "window": row.window_now,
        "handler": row.handler,
        "before": before if before < _COUNTED else _("%d or more") % before,
    }


def _remainder(row: Subscription, in_flight: int) -> str:
    """Name the rule of whole messages; "" if it does not keep the relay from sending."""
    batch = message_size(window_now=row.window_now, batch=row.batch, is_bulk=row.bulk)
    if batch == 1 or in_flight < batch:
        return ""
    text = _(
        "Waits for a whole message: while %(in_flight)d deliveries of %(handler)s are with the "
        "broker or a worker, the relay sends only whole messages of %(batch)d. It sends the rest "
        "when fewer than %(batch)d are in flight."
    )
    return text % {"in_flight": in_flight, "handler": row.handler, "batch": batch}


def _sent(delivery: Delivery, now: datetime) -> str:
    return _started(delivery, now) if delivery.is_started else _unstarted(delivery, now)


def _started(delivery: Delivery, now: datetime) -> str:
    text = _("Worker %(worker)s runs it since %(since)s (attempt %(n)d), leased until %(until)s.")
    if delivery.due_at <= now:
        text = _(
            "Worker %(worker)s runs it since %(since)s, and its lease expired at %(until)s. Either "
            "the worker died, or it cannot reach the database, or the handler needs a longer "
            "lease. The relay makes it due again."
        )
    return text % {
        "worker": delivery.worker or "?",
        "since": format_time(delivery.started_at) if delivery.started_at else "?",
        "until": format_time(delivery.due_at),
        "n": delivery.attempts,
    }


def _unstarted(delivery: Delivery, now: datetime) -> str:
    queue, using, clue = delivery.subscription.queue, delivery._state.db, ""
    waited = now - (delivery.due_at - timedelta(seconds=delivery.subscription.lease_seconds))
    busy = _busy(queue, now, using=using)
    if delivery.due_at <= now:
        text = _(
            "No worker of the queue %(queue)s started it by %(until)s; the relay sends it again. "
            "%(clue)s"
        )
        clue = Heartbeats(using=using).queue_clue(queue)
    elif busy:
        text = ngettext(
            "In the queue %(queue)s for %(span)s, whose workers run %(busy)d other delivery; sent "
            "again after %(until)s.",
            "In the queue %(queue)s for %(span)s, whose workers run %(busy)d other deliveries; "
            "sent again after %(until)s.",
            busy,
        )
    elif waited < PATIENCE:
        text = _("Just sent to the queue %(queue)s; a worker starts it next.")
    else:
        text = _unstarted_for_long(delivery.token)
        clue = Heartbeats(using=using).worker_clue(queue)
    return text % {
        "queue": queue,
        "span": span(waited),
        "until": format_time(delivery.due_at),
        "busy": busy,
        "n": delivery.token,
        "clue": clue,
    }


def _unstarted_for_long(times: int) -> str:
    return ngettext(
        "In the queue %(queue)s for %(span)s (sent %(n)d time), and no worker started it; sent "
        "again after %(until)s. %(clue)s",
        "In the queue %(queue)s for %(span)s (sent %(n)d times), and no worker started it; sent "
        "again after %(until)s. %(clue)s",
        times,
    )


def _busy(queue: str, now: datetime, *, using: str | None) -> int:
    """Count the running deliveries of a queue; its handlers' windows bound the query."""
    started = Delivery.objects.using(using).filter(state=State.SENT, started_token=F("token"))
    return started.filter(subscription__queue=queue, due_at__gt=now).count()


_SENTENCES: dict[State, Callable[[Delivery, datetime], str]] = {
    State.PENDING: _pending,
    State.SENT: _sent,
    State.DONE: finished.done,
    State.DEAD: finished.dead,
    State.DISCARDED: finished.discarded,
    State.PARKED: _parked,
    State.BLOCKED: _blocked,
}
