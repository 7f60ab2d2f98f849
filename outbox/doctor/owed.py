"""Findings about outstanding work that fails or does not continue by itself.

Failing, dead, parked, held by a breaker, owed to an unknown handler, or an unfinished operation.
Reasons of pauses and breakers are left out. They may quote a failure, and people who may see the
doctor's page in the admin need not be allowed to see failures. So exceptions are optional.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import reduce
from operator import or_
from shlex import quote
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import events
from outbox.formatting import end_command, format_time, listing, span
from outbox.models import Delivery, Subscription
from outbox.monitor.consumers import ConsumerStatus
from outbox.monitor.failures import FailureGroup, unexamined_text
from outbox.monitor.people import name_of
from outbox.monitor.status import HandlerStatus, Status, status
from outbox.monitor.stops import BACKFILL, PAUSE
from outbox.monitor.unserved import handed_back, longest_waiting
from outbox.operations import next_step, unfinished
from outbox.subscriptions import find

from .findings import Finding, error, ok, warning

_PART = "owed deliveries"
_LONG = 60.0
#: A handler lags if a due delivery has waited for longer, as in the trigger of the alerts.
_LAG = timedelta(minutes=5)
#: A handler that fails for longer, without a success since, does not work.
_LONG_FAILING = timedelta(minutes=15)


def examine(*, using: str, has_failures: bool = True) -> Iterator[Finding]:
    """Find failing, dead, parked, unknown, ended or late work, and unfinished operations.

    An open breaker is a finding even if no delivery waits for it.

    Args:
        using: the outbox's database alias.
        has_failures: name the exceptions of failing handlers.
    """
    now = status(using=using, has_failures=has_failures)
    handlers = now.handlers
    rows = list(_subscriptions(using=using).order_by("handler", "event"))
    owed = [row for row in rows if row.owes]
    found = [
        *_failing(now.failing),
        *_unexamined(now.unexamined),
        *_dead(handlers),
        *_paused(handlers),
        *_parked_as_unknown(owed, using=using),
        *_ended_in_part(rows),
        *_open_breakers(handlers, using=using),
        *_unknown_handlers(owed),
        *_unknown_events(owed),
        *_waiting_events(now),
        *_lagging(now, using=using),
        *_handed_back(now, using=using),
        *_late_consumers(now.consumers),
        *_operations(handlers, using=using),
    ]
    yield from found or [ok(_PART, _("No delivery, event or operation needs a person."))]


def _failing(found: Sequence[FailureGroup]) -> Iterator[Finding]:
    for one in found:
        is_new = one.now - one.since < _LONG_FAILING
        has_succeeded = one.last_success is not None and one.last_success >= one.since
        report = warning if is_new or has_succeeded else error
        yield report(
            _PART,
            f"{one.text} ({one.details}).",
            _(
                "Correct the cause. `manage.py outbox why %(example)s` explains "
                "the latest one, and `manage.py outbox groups` shows the commands "
                "that retry them or pause the handler."
            )
            % {"example": one.example},
        )


def _unexamined(handlers: Sequence[str]) -> Iterator[Finding]:
    for handler in handlers:
        yield warning(
            _PART,
            unexamined_text(handler),
            _("Correct the known causes. The next ones are shown when fewer deliveries fail."),
        )


def _dead(handlers: Sequence[HandlerStatus]) -> Iterator[Finding]:
    for one in handlers:
        if one.dead:
            yield warning(
                _PART,
                _("%(deliveries)s dead.") % {"deliveries": _deliveries(one.dead, of=one.handler)},
                _("`manage.py outbox groups` shows the causes and the commands that retry them."),
            )


def _paused(handlers: Sequence[HandlerStatus]) -> Iterator[Finding]:
    for one in handlers:
        waiting = _waiting_for(one)
        if one.stop is not None and one.stop.kind in (BACKFILL, PAUSE) and waiting:
            yield warning(
                _PART,
                _("%(cause)s. Waiting: %(waiting)s.")
                % {"cause": one.stop.cause, "waiting": waiting},
                one.stop.next_step,
            )


def _parked_as_unknown(owed: Sequence[Subscription], *, using: str) -> Iterator[Finding]:
    """Find parked deliveries of an event that a handler of this code no longer subscribes to.

    Or another release was migrated last.
    """
    parked = Delivery.objects.using(using).filter(state=Delivery.State.PARKED)
    for row in owed:
        if row.known or not row.active or find(row.handler) is None:
            continue
        if number := parked.filter(subscription=row).count():
            yield warning(
                _PART,
                _(
                    "%(deliveries)s parked: the release that was migrated last no longer "
                    "subscribes it to %(event)s."
                )
                % {"deliveries": _deliveries(number, of=row.handler), "event": row.event},
                _("Run `manage.py migrate` with a release that does. Or end it: %(end)s.")
                % {"end": end_command(row.handler, row.event)},
            )


def _ended_in_part(rows: Sequence[Subscription]) -> Iterator[Finding]:
    """Find ended subscriptions of this code's handlers that have other, active ones.

    A later release may subscribe a handler again to an event that a person has ended.
    """
    active = {row.handler for row in rows if row.active}
    for row in rows:
        if row.active or not row.known or row.handler not in active:
            continue
        one_event = f" --event {quote(row.event)}"
        yield warning(
            _PART,
            _("%(handler)s gets no new %(event)s: this subscription has ended.")
            % {"handler": row.handler, "event": row.event},
            _(
                "Remove the event from its `@subscribe`. Or make it active again: `manage.py "
                "outbox resume %(handler)s`, then create the missed deliveries: `manage.py "
                "outbox backfill %(handler)s%(chosen)s --reason TEXT`."
            )
            % {"handler": row.handler, "chosen": "" if row.has_several_events else one_event},
        )


def _open_breakers(handlers: Sequence[HandlerStatus], *, using: str) -> Iterator[Finding]:
    """Find open breakers of active subscriptions."""
    if all(one.breaker_opened_at is None for one in handlers):
        return
    rows = Subscription.objects.using(using).filter(active=True, breaker_opened_at__isnull=False)
    active = set(rows.values_list("handler", flat=True))
    for one in handlers:
        if one.handler not in active or one.breaker_opened_at is None:
            continue
        yield warning(
            _PART,
            _(
                "The breaker of %(handler)s is open since %(since)s. %(probe)s. "
                "Waiting: %(waiting)s."
            )
            % {
                "handler": one.handler,
                "since": format_time(one.breaker_opened_at),
                "probe": _probe(one),
                "waiting": _waiting_for(one) or _("no delivery"),
            },
            _(
                "`manage.py outbox status` shows the host and the reason. Check "
                "that the external system is up. If the probe, one delivery, "
                "succeeds, the breaker closes. To close it without a probe, so "
                "that its due deliveries are sent at once: `manage.py outbox "
                "close-breaker %(handler)s --reason TEXT`."
            )
            % {"handler": one.handler},
        )


def _probe(one: HandlerStatus) -> str:
    if one.paused_at is not None:
        return _("No probe is sent while the handler is paused")
    if one.breaker_probe_at is None:
        return _("The next probe is due now")
    return _("The next probe is due at %(breaker_probe_at)s") % {
        "breaker_probe_at": format_time(one.breaker_probe_at)
    }


def _waiting_for(one: HandlerStatus) -> str:
    """Count the waiting deliveries of a handler: "3 deliveries (2 parked, 1 pending)", or ""."""
    numbers = {"parked": one.parked, "pending": one.pending, "blocked": one.blocked}
    total = sum(numbers.values())
    parts = listing(
        f"{number:,} {Delivery.State(state).label}" for state, number in numbers.items() if number
    )
    text = ngettext("%(total)s delivery (%(parts)s)", "%(total)s deliveries (%(parts)s)", total)
    return text % {"total": f"{total:,}", "parts": parts} if total else ""


def _deliveries(number: int, *, of: str) -> str:
    text = ngettext(
        "%(number)s delivery of %(handler)s is", "%(number)s deliveries of %(handler)s are", number
    )
    return text % {"number": f"{number:,}", "handler": of}


def _unknown_handlers(owed: Sequence[Subscription]) -> Iterator[Finding]:
    for row in owed:
        is_unknown = find(row.handler) is None
        if not is_unknown and row.active:
            continue
        why = _("this code has no such handler") if is_unknown else _("its subscription has ended")
        yield error(
            _PART,
            _("%(handler)s has owed deliveries, but %(why)s.")
            % {"handler": row.handler, "why": why},
            _(
                "Deploy a release that has %(handler)s, or name it in the "
                "`formerly=` of its successor, or discard the deliveries: %(end)s."
            )
            % {
                "handler": row.handler,
                "end": end_command(row.handler, "" if is_unknown else row.event),
            },
        )


def _subscriptions(*, using: str) -> QuerySet[Any]:
    """Return all subscriptions, and whether each `owes` deliveries.

    It has one condition for each state's index.
    """
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk"))
    states = [Q(Exists(mine.filter(state=state))) for state in Delivery.OWED]
    return Subscription.objects.using(using).annotate(owes=reduce(or_, states))


def _unknown_events(owed: Sequence[Subscription]) -> Iterator[Finding]:
    for row in owed:
        if row.active and not row.has_several_events and events.find(row.event) is None:
            yield warning(
                _PART,
                _("%(handler)s has owed deliveries of %(event)s, which this code does not declare.")
                % {"handler": row.handler, "event": row.event},
                _(
                    "Check whether its app was removed. Its stored events are "
                    "delivered without a check of their fields."
                ),
            )


def _waiting_events(now: Status) -> Iterator[Finding]:
    age = now.age(now.oldest_waiting)
    if age is not None and age.total_seconds() > _LONG:
        yield error(
            _PART,
            _("The oldest event without fan-out was emitted %(age)s ago.") % {"age": span(age)},
            _("The relay does not run, or does not keep up: see the findings about it."),
        )


def _lagging(now: Status, *, using: str) -> Iterator[Finding]:
    """Find handlers whose workers do not keep up, or whose windows or shares are full."""
    waiting = longest_waiting(using=using)
    for one in now.handlers:
        first = waiting.get(one.handler)
        if first is None or one.stop is not None or now.at - first.since <= _LAG:
            continue
        facts = {"handler": one.handler, "age": span(now.at - first.since), "queue": one.queue}
        yield warning(
            _PART,
            _("%(handler)s lags: a delivery has been due for %(age)s.") % facts,
            _(
                "`manage.py outbox why %(delivery)d` names the cause: the workers of the queue "
                "%(queue)s, or a full window or share of the handler."
            )
            % {**facts, "delivery": first.delivery},
        )


def _handed_back(now: Status, *, using: str) -> Iterator[Finding]:
    """Find deliveries that workers cannot run, for longer than a deploy should take."""
    for one in handed_back(using=using):
        age = now.age(one.since)
        if age is None or age.total_seconds() <= _LONG:
            continue
        facts = {"handler": one.handler, "age": span(age), "note": one.note}
        if one.removed_event:
            yield warning(
                _PART,
                _(
                    "Workers hand deliveries of %(handler)s back, the oldest for %(age)s: it no "
                    "longer subscribes to %(event)s."
                )
                % {**facts, "event": one.removed_event},
                _("Run `manage.py migrate` with a release that does. Or end it: %(end)s.")
                % {"end": end_command(one.handler, one.removed_event)},
            )
        else:
            yield error(
                _PART,
                _(
                    "Running workers hand deliveries of %(handler)s back, the oldest for %(age)s: "
                    "%(note)s"
                )
                % facts,
                _(
                    "Replace the workers of the queue %(queue)s by the release that was migrated "
                    "last."
                )
                % {"queue": one.queue},
            )


def _late_consumers(consumers: Sequence[ConsumerStatus]) -> Iterator[Finding]:
    for one in consumers:
        if not one.is_on:
            yield warning(
                _PART,
                _(
                    "%(consumer)s has not settled events of %(handler)s in time: "
                    "%(late)s late, %(missing)s missing (dead letters)."
                )
                % {
                    "consumer": one.consumer,
                    "handler": one.handler,
                    "late": f"{one.late:,}",
                    "missing": f"{one.missing:,}",
                },
                _(
                    "Check whether %(consumer)s receives the events, whether it has "
                    "dead letters, and whether it publishes outbox.Settled on a topic "
                    "that a source of this project receives."
                )
                % {"consumer": one.consumer},
            )


def _operations(handlers: Sequence[HandlerStatus], *, using: str) -> Iterator[Finding]:
    stopped = list(unfinished(using=using))
    held = {one.backfill: one.handler for one in handlers if one.backfill}
    for operation in stopped:
        handler = held.get(operation.pk, "")
        by = name_of(operation.by)
        holds = ""
        if handler:
            holds = " " + _("It holds %(handler)s, which runs no delivery meanwhile.") % {
                "handler": handler
            }
        yield warning(
            _PART,
            _(
                "Operation %(pk)s (%(action)s by %(by)s) is unfinished, and its "
                "last heartbeat was at %(seen_at)s.%(holds)s"
            )
            % {
                "pk": operation.pk,
                "action": operation.action,
                "by": by,
                "seen_at": format_time(operation.seen_at),
                "holds": holds,
            },
            next_step(operation),
        )
