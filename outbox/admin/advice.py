"""Advice on the most urgent next step, in one sentence with a link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.models import Subscription
from outbox.monitor.groups import Group
from outbox.monitor.health import Light
from outbox.monitor.status import Status
from outbox.templatetags.outbox_display import span

from .links import dead_url, events_url, handlers_url, operation_url

#: An owed delivery older than this needs attention.
_LONG = timedelta(minutes=1)


@dataclass(frozen=True)
class Advice:
    """A sentence with a link, and whether it is about something broken."""

    text: str
    url: str = ""
    link: str = ""
    is_bad: bool = True


def advice(
    status: Status, lights: Sequence[Light], groups: Sequence[Group], *, has_failures: bool
) -> Advice:
    """Return the most urgent advice, or that there is nothing to do.

    Args:
        status: outstanding deliveries.
        lights: health of the parts.
        groups: dead deliveries.
        has_failures: include exceptions, and the reasons of open breakers.
    """
    nothing = Advice(_("Nothing: all that was told is done or under way."), is_bad=False)
    parts = (
        _of_lights(status, lights),
        _of_groups(groups, has_failures=has_failures),
        _of_handlers(status, has_failures=has_failures),
        _of_age(status),
    )
    return next((found for part in parts for found in part), nothing)


def _of_lights(status: Status, lights: Sequence[Light]) -> Iterator[Advice]:
    off = {(light.part, light.queue): light for light in lights if not light.is_on}
    if relay := off.get(("relay", "")):
        text = _("Start a worker of the queue outbox: the relay is %s, so nothing is sent.")
        yield Advice(text % relay.text)
    owing = {one.queue for one in status.handlers if one.pending or one.sent}
    for (_part, queue), light in off.items():
        if queue in owing:
            text = _("Start a worker with -Q %(queue)s: it is %(silent)s, and work waits for it.")
            yield Advice(text % {"queue": queue, "silent": light.text})
    if broker := off.get(("broker", "")):
        text = _("See whether the broker answers: it is %s. What is told waits in the database.")
        yield Advice(text % broker.text)
    if beat := off.get(("beat", "")):
        text = _("Start beat: it is %s, so nothing happens by the clock.")
        yield Advice(text % beat.text)


def _of_groups(groups: Sequence[Group], *, has_failures: bool) -> Iterator[Advice]:
    for group in groups:
        if group.is_overtaken:
            yield _on_overtaken(group)
            continue
        text = ngettext(
            "Repair what %(number)d delivery to %(handler)s died of, then retry it.",
            "Repair what %(number)d deliveries to %(handler)s died of, then retry them.",
            group.number,
        )
        if has_failures:
            text = ngettext(
                "Repair what %(number)d delivery to %(handler)s died of, then retry it: %(what)s.",
                "Repair what %(number)d deliveries to %(handler)s died of, then retry them: "
                "%(what)s.",
                group.number,
            )
        facts = {"number": group.number, "handler": group.handler, "what": group.cause}
        yield Advice(text % facts, dead_url(handler=group.handler), _("Dead letters"))


def _on_overtaken(group: Group) -> Advice:
    text = ngettext(
        "Decide on %(number)d delivery to %(handler)s: a later event of its key ran before it, so "
        "a retry runs it out of order.",
        "Decide on %(number)d deliveries to %(handler)s: a later event of its key ran before each, "
        "so a retry runs them out of order.",
        group.number,
    )
    facts = {"number": group.number, "handler": group.handler}
    return Advice(text % facts, dead_url(handler=group.handler), _("Dead letters"))


def _of_handlers(status: Status, *, has_failures: bool) -> Iterator[Advice]:
    for row in Subscription.objects.filter(breaker_opened_at__isnull=False).order_by("handler"):
        text = _("Ask the other side: the breaker of %(handler)s is open.")
        if has_failures:
            text = _("Ask the other side: the breaker of %(handler)s is open (%(reason)s).")
        facts = {"handler": row.handler, "reason": row.breaker_reason}
        yield Advice(text % facts, handlers_url(), _("Handlers"))
    for one in status.handlers:
        if one.backfill:
            url = operation_url(one.backfill)
            yield Advice(one.held_text, url, _("Operation"), is_bad=False)
        elif one.paused_at and one.parked:
            text = _("Resume %(handler)s when its reason is gone: %(parked)d wait for it.")
            values = {"handler": one.handler, "parked": one.parked}
            yield Advice(text % values, handlers_url(), _("Handlers"), is_bad=False)


def _of_age(status: Status) -> Iterator[Advice]:
    ages = [(status.age(one.oldest), one.handler) for one in status.handlers if one.oldest]
    late = [(age, handler) for age, handler in ages if age is not None and age > _LONG]
    if late:
        age, handler = max(late)
        text = _("See why %(handler)s is behind: its oldest delivery waits for %(age)s.")
        facts = {"handler": handler, "age": span(age)}
        yield Advice(text % facts, events_url(state="owed"), _("Events"), is_bad=False)
