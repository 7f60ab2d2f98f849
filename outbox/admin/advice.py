"""Advice on the most urgent next step, in one sentence with a link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.formatting import format_time
from outbox.models import Subscription
from outbox.monitor.groups import Group
from outbox.monitor.health import PartHealth
from outbox.monitor.status import Status
from outbox.monitor.stops import UNKNOWN
from outbox.monitor.unserved import handed_back, longest_waiting
from outbox.templatetags.outbox_display import span
from outbox.transports import names
from outbox.transports.base import NUDGES

from .links import (
    dead_url,
    delivery_url,
    events_url,
    handlers_url,
    operation_url,
    settlements_url,
)

#: An event that waits for the relay, or a delivery for a worker, for longer needs attention.
_LONG = timedelta(minutes=1)


@dataclass(frozen=True)
class Advice:
    """A sentence with a link, and whether it is about something broken."""

    text: str
    url: str = ""
    link: str = ""
    is_bad: bool = True


def advice(
    status: Status, health: Sequence[PartHealth], groups: Sequence[Group], *, has_failures: bool
) -> Advice:
    """Return the most urgent advice, or that there is nothing to do.

    Args:
        status: outstanding deliveries.
        health: health of the parts.
        groups: dead deliveries.
        has_failures: include exceptions, and the reasons of open breakers.
    """
    nothing = Advice(_("None. All deliveries are done or in progress."), is_bad=False)
    parts = (
        _of_health(status, health),
        _of_failing(status),
        _of_groups(groups, has_failures=has_failures),
        _of_handlers(status, has_failures=has_failures),
        _of_nudges(health),
        _of_age(status),
        _of_release(status),
    )
    return next((found for part in parts for found in part), nothing)


def _of_health(status: Status, health: Sequence[PartHealth]) -> Iterator[Advice]:
    is_local = not names.uses(names.CELERY)
    off = {(part.part, part.queue): part for part in health if not part.is_on}
    if relay := off.get(("relay", "")):
        text = _("The relay is %s, so no delivery is sent. Start a worker of the queue outbox.")
        if is_local:
            text = _("The relay is %s, so no delivery is sent. Start `manage.py outbox work`.")
        if relay.is_failing:
            text = _("The relay does not work: %s. Correct the cause. Its log has the traceback.")
        yield Advice(text % relay.text)
    owing = {one.queue for one in status.handlers if one.pending or one.sent}
    for (kind, queue), part in off.items():
        if kind == "source":
            yield _on_source(part)
        elif kind == "consumer":
            text = _("%(consumer)s does not settle events in time (%(health)s). Check that system.")
            url = settlements_url(consumer=queue)
            yield Advice(text % {"consumer": queue, "health": part.text}, url, _("Settlements"))
        elif kind == "queue" and part.is_failing and queue != NUDGES:
            yield _on_refused(part)
        elif queue in owing:
            text = _(
                "Queue %(queue)s has no worker (%(health)s), and deliveries wait for it. Start one "
                "with `-Q %(queue)s`."
            )
            if is_local:
                text = _(
                    "No process serves the queue %(queue)s (%(health)s), and deliveries wait for "
                    "it. Start `manage.py outbox work --queue %(queue)s`."
                )
            yield Advice(text % {"queue": queue, "health": part.text})
    if broker := off.get(("broker", "")):
        text = _("The broker is %s. Deliveries wait in the database. Check that it is running.")
        yield Advice(text % broker.text)
    if beat := off.get(("beat", "")):
        text = _("Beat is %s, so periodic tasks do not start. Start beat.")
        yield Advice(text % beat.text)


def _on_source(part: PartHealth) -> Advice:
    text = _("No process receives the source %(source)s (%(health)s). Start one.")
    if part.is_failing:
        text = _("The source %(source)s %(health)s. Correct the cause. Its process tries again.")
    url = reverse("admin:outbox_event_sources")
    return Advice(text % {"source": part.queue, "health": part.text}, url, _("Sources"))


def _of_nudges(health: Sequence[PartHealth]) -> Iterator[Advice]:
    """Yield the advice on refused nudges: relays poll without them, so all is delivered."""
    for part in health:
        if part.queue == NUDGES and part.is_failing:
            yield _on_refused(part)


def _on_refused(part: PartHealth) -> Advice:
    text = _("The queue %(queue)s %(health)s. The health checks name the next step.")
    url = reverse("admin:outbox_minute_health_checks")
    return Advice(text % {"queue": part.queue, "health": part.text}, url, _("Health checks"))


def _of_failing(status: Status) -> Iterator[Advice]:
    for group in status.failing:
        text = _("%(handler)s is failing (%(cause)s). Fix the cause. The outbox tries again.")
        facts = {"handler": group.handler, "cause": group.cause}
        yield Advice(text % facts, dead_url(handler=group.handler), _("Failures"))


def _of_groups(groups: Sequence[Group], *, has_failures: bool) -> Iterator[Advice]:
    for group in groups:
        if group.is_overtaken:
            yield _on_overtaken(group)
            continue
        text = ngettext(
            "%(number)d delivery of %(handler)s failed. Fix the cause, then retry.",
            "%(number)d deliveries of %(handler)s failed. Fix the cause, then retry.",
            group.number,
        )
        if has_failures:
            text = ngettext(
                "%(number)d delivery of %(handler)s failed (%(cause)s). Fix the cause, then retry.",
                "%(number)d deliveries of %(handler)s failed (%(cause)s). Fix the cause, then "
                "retry.",
                group.number,
            )
        facts = {"number": group.number, "handler": group.handler, "cause": group.cause}
        yield Advice(text % facts, dead_url(handler=group.handler), _("Failures"))


def _on_overtaken(group: Group) -> Advice:
    text = ngettext(
        "%(number)d delivery of %(handler)s was overtaken by a later event of its key. Discard it, "
        "or retry it out of order.",
        "%(number)d deliveries of %(handler)s were overtaken by a later event of their key. "
        "Discard them, or retry them out of order.",
        group.number,
    )
    facts = {"number": group.number, "handler": group.handler}
    return Advice(text % facts, dead_url(handler=group.handler), _("Failures"))


def _of_handlers(status: Status, *, has_failures: bool) -> Iterator[Advice]:
    held = Subscription.objects.filter(active=True, breaker_opened_at__isnull=False)
    for row in held.order_by("handler"):
        text = _(
            "The breaker of %(handler)s is open. Check the external system. The next probe is due "
            "at %(probe)s. If it succeeds, the breaker closes."
        )
        if has_failures:
            text = _(
                "The breaker of %(handler)s is open (%(reason)s). Check the external system. The "
                "next probe is due at %(probe)s. If it succeeds, the breaker closes."
            )
        probe = format_time(row.breaker_probe_at) if row.breaker_probe_at else _("once")
        facts = {"handler": row.handler, "reason": row.breaker_reason, "probe": probe}
        yield Advice(text % facts, handlers_url(), _("Handlers"))
    for one in status.handlers:
        if one.backfill:
            url = operation_url(one.backfill)
            yield Advice(one.held_text, url, _("Operation"), is_bad=False)
        elif one.paused_at and one.parked:
            text = ngettext(
                "%(handler)s is paused, and %(parked)d delivery waits. Resume it when the reason "
                "no longer applies.",
                "%(handler)s is paused, and %(parked)d deliveries wait. Resume it when the reason "
                "no longer applies.",
                one.parked,
            )
            values = {"handler": one.handler, "parked": one.parked}
            yield Advice(text % values, handlers_url(), _("Handlers"), is_bad=False)
        elif one.parked and one.stop is not None and one.stop.kind == UNKNOWN:
            yield Advice(one.stop.text, handlers_url(), _("Handlers"), is_bad=False)


def _of_age(status: Status) -> Iterator[Advice]:
    waited = status.age(status.oldest_waiting)
    if waited is not None and waited > _LONG:
        text = _(
            "Events wait for the relay, the oldest for %(age)s. Run `manage.py outbox doctor`."
        )
        yield Advice(text % {"age": span(waited)}, events_url(state="owed"), _("Events"))
    waiting = longest_waiting()
    handler = min(waiting, key=lambda one: waiting[one].since, default="")
    if handler and (age := status.at - waiting[handler].since) > _LONG:
        text = _(
            "%(handler)s is behind: a delivery has waited for a worker for %(age)s. Find the cause."
        )
        facts = {"handler": handler, "age": span(age)}
        url = delivery_url(waiting[handler].delivery)
        yield Advice(text % facts, url, _("Delivery"), is_bad=False)


def _of_release(status: Status) -> Iterator[Advice]:
    for one in handed_back():
        age = status.age(one.since)
        if age is not None and age > _LONG:
            yield Advice(one.in_words(age), handlers_url(), _("Handlers"), is_bad=False)
