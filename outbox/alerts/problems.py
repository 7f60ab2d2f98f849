"""Find the problems of the system by the monitor: one for each cause, with text and next step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import databases
from outbox.deliveries.transient_errors import is_transient
from outbox.formatting import format_time, one_line, span
from outbox.monitor.failures import FailureGroup
from outbox.monitor.groups import Group, groups
from outbox.monitor.health import PartHealth, health_of_parts
from outbox.monitor.sources import SourceStatus, source_statuses
from outbox.monitor.status import HandlerStatus, Status, status
from outbox.monitor.stops import BREAKER as OPEN_BREAKER
from outbox.monitor.stops import PAUSE, UNKNOWN
from outbox.monitor.unserved import HandedBack, Waiting, handed_back, longest_waiting

from .configuration import BREAKER, DEAD, FAILING, LAG, PAUSED, SETTLEMENT, SILENT, SOURCE
from .findings import Findings, Problem, key_of, of_database, page

logger = logging.getLogger("outbox.alerts")

#: Most of the newest dead deliveries that a check groups.
MOST_DEAD = 1000


def find(limits: Mapping[str, float], *, using: str) -> Findings:
    """Find the problems of the triggers that are on. A trigger that raises hides no other's.

    If there are several databases, each problem names its own in text, link and commands.
    Cost: about fifteen queries, and four more with sources. They read no settled delivery, and at
    most about a thousand deliveries of a subscription and state.

    Args:
        limits: by trigger the seconds before a message; only those of "lag" are used here.
        using: the outbox's database alias.
    """
    with databases.serving(using):
        return _found(limits, using=using)


def _found(limits: Mapping[str, float], *, using: str) -> Findings:
    found = status(using=using, most=MOST_DEAD + 1)
    parts: Mapping[str, Callable[[], Iterator[Problem]]] = {
        FAILING: lambda: _failing(found),
        DEAD: lambda: _dead(using=using),
        LAG: lambda: _lag(found, timedelta(seconds=limits[LAG]), using=using),
        BREAKER: lambda: _breakers(found),
        PAUSED: lambda: _paused_handlers(found),
        SOURCE: lambda: _sources(using=using),
        SILENT: lambda: _silent(using=using),
        SETTLEMENT: lambda: _settlements(using=using),
    }
    problems: list[Problem] = []
    raised: list[str] = []
    for name in [one for one in parts if one in limits]:
        try:
            problems += parts[name]()
        except Exception as error:
            if is_transient(error, using=using):
                raise
            logger.exception("The check of the alerts' trigger %s failed. It is repeated.", name)
            raised.append(name)
    return Findings(
        at=found.at,
        problems={one.key: of_database(one, using) for one in problems},
        unexamined=(
            *(key_of(name, "") for name in raised),
            *(key_of(FAILING, handler, "") for handler in found.unexamined),
            # Their deliveries are parked and not repeated, so they are in no failing group.
            *(key_of(FAILING, one.handler, "") for one in found.handlers if _is_parked(one)),
            *(key_of(DEAD, one.handler, "") for one in _with_many_dead(found)),
        ),
    )


def _failing(found: Status) -> Iterator[Problem]:
    handlers = {one.handler: one for one in found.handlers}
    for one in found.failing:
        text = _("%(handler)s is failing: %(cause)s, %(number)s, since %(since)s.")
        step = _("They are tried again. To retry now: `%(retry)s`.") % {"retry": one.retry}
        facts = {
            "handler": one.handler,
            "cause": _cause_of(one),
            "number": one.number_text,
            "since": one.at_the_latest(format_time(one.since)),
        }
        if (handler := handlers.get(one.handler)) is not None and _is_held(handler):
            assert handler.stop is not None
            step = handler.stop.text
        yield Problem(
            # Without an exception, the cause distinguishes deaths from outages.
            key=key_of(FAILING, one.handler, one.exception or one.cause, one.place),
            trigger=FAILING,
            text=f"{text % facts} {step}",
            path=page("outbox_delivery_dead", handler=one.handler),
        )


def _cause_of(one: FailureGroup) -> str:
    """Return exception, message and place."""
    text = one_line(": ".join(filter(None, (one.cause, one.message))))
    return f"{text} ({one.place})" if one.place else text


def _is_held(one: HandlerStatus) -> bool:
    """Return whether its breaker is open."""
    return one.stop is not None and one.stop.kind == OPEN_BREAKER


def _dead(*, using: str) -> Iterator[Problem]:
    for one in groups(using=using, most=MOST_DEAD):
        text = ngettext(
            "%(handler)s has %(number)d dead delivery: %(cause)s.",
            "%(handler)s has %(number)d dead deliveries: %(cause)s.",
            one.number,
        )
        facts = {
            "handler": one.handler,
            "number": one.number,
            "cause": _cause(one),
            "retry": one.retry,
            "discard": one.discard,
            "correct": one.correct,
        }
        parts = (one.handler, one.exception, one.place, one.reason, str(one.is_overtaken))
        yield Problem(
            key=key_of(DEAD, *parts),
            trigger=DEAD,
            text=f"{text} {_step(one)}" % facts,
            path=page("outbox_delivery_dead", handler=one.handler),
        )


def _step(one: Group) -> str:
    """Return the next step, as `outbox groups` names it."""
    if one.is_overtaken:
        return _(
            "A retry runs them out of order. If the handler can run out of order: `%(retry)s`. "
            "Otherwise: `%(discard)s --reason TEXT`."
        )
    if one.is_unsettled:
        return _(
            "Check whether the consumer receives the events. To publish them again: `%(retry)s`."
        )
    if one.reason:
        return _("To correct one: `%(correct)s`. After a release that can read them: `%(retry)s`.")
    return _("Fix the cause, then retry: `%(retry)s`.")


def _cause(one: Group) -> str:
    return f"{one_line(one.cause)} ({one.place})" if one.place else one_line(one.cause)


def _with_many_dead(found: Status) -> Iterator[HandlerStatus]:
    """Yield the handlers with dead deliveries, if there are more than a check groups."""
    if sum(one.dead for one in found.handlers) > MOST_DEAD:
        yield from (one for one in found.handlers if one.dead)


def _lag(found: Status, limit: timedelta, *, using: str) -> Iterator[Problem]:
    age = found.age(found.oldest_waiting)
    if age is not None and age >= limit:
        text = _(
            "Events wait for the relay, the oldest for %(age)s. Run `manage.py outbox doctor`."
        )
        yield Problem(
            key=key_of(LAG, "relay"),
            trigger=LAG,
            text=text % {"age": span(age)},
            path=page("outbox_minute_changelist"),
        )
    waiting = longest_waiting(using=using)
    for one in found.handlers:
        first = waiting.get(one.handler)
        if first is not None and one.stop is None and found.at - first.since >= limit:
            yield _late(one, first, found)
    for back in handed_back(using=using):
        waited = found.age(back.since)
        if waited is not None and waited >= limit:
            yield _without_code(back, waited)


def _without_code(one: HandedBack, waited: timedelta) -> Problem:
    return Problem(
        key=key_of(LAG, one.handler, "release"),
        trigger=LAG,
        text=one.in_words(waited),
        path=page("outbox_subscription_handlers"),
    )


def _late(one: HandlerStatus, first: Waiting, found: Status) -> Problem:
    # Deliveries whose messages wait with the broker are in flight.
    number = one.pending + one.sent
    text = ngettext(
        "%(handler)s lags: %(number)d delivery waits, one has been due for %(age)s.",
        "%(handler)s lags: %(number)d deliveries wait, one has been due for %(age)s.",
        number,
    )
    if found.most is not None and max(one.pending, one.sent) >= found.most:
        text = _(
            "%(handler)s lags: %(number)d or more deliveries wait, one has been due for %(age)s."
        )
    step = _(
        "Check the workers of the queue %(queue)s, and `manage.py outbox doctor`. If the window of "
        "the handler or a share is full, `manage.py outbox why %(delivery)d` names it."
    )
    facts = {
        "handler": one.handler,
        "number": number,
        "age": span(found.at - first.since),
        "queue": one.queue,
        "delivery": first.delivery,
    }
    return Problem(
        key=key_of(LAG, one.handler),
        trigger=LAG,
        text=f"{text} {step}" % facts,
        path=page("outbox_subscription_handlers"),
    )


def _breakers(found: Status) -> Iterator[Problem]:
    for one in found.handlers:
        if one.stop is not None and _is_held(one):
            yield Problem(
                key=key_of(BREAKER, one.handler),
                trigger=BREAKER,
                text=one.stop.text,
                path=page("outbox_subscription_handlers"),
            )


def _is_parked(one: HandlerStatus) -> bool:
    """Return whether it is paused or unknown while it owes deliveries."""
    owes = one.pending + one.sent + one.dead + one.parked + one.blocked > 0
    return owes and one.stop is not None and one.stop.kind in (PAUSE, UNKNOWN)


def _paused_handlers(found: Status) -> Iterator[Problem]:
    for one in found.handlers:
        if one.stop is not None and _is_parked(one):
            yield Problem(
                key=key_of(PAUSED, one.handler),
                trigger=PAUSED,
                text=one.stop.text,
                path=page("outbox_subscription_handlers"),
            )


def _silent(*, using: str) -> Iterator[Problem]:
    for one in health_of_parts(using=using):
        if not one.is_on and one.part not in ("source", "consumer"):
            text = _("No recent heartbeat of %(name)s: %(text)s. Run `manage.py outbox doctor`.")
            if one.is_failing:
                text = _("The %(name)s does not work: %(text)s. Run `manage.py outbox doctor`.")
            yield _of_part(one, SILENT, text, name="outbox_minute_changelist")


def _settlements(*, using: str) -> Iterator[Problem]:
    for one in health_of_parts(using=using):
        if not one.is_on and one.part == "consumer":
            text = _(
                "The %(name)s does not settle in time: %(text)s. Check whether it receives the "
                "events, and whether a source receives its reports."
            )
            yield _of_part(one, SETTLEMENT, text, name="outbox_settlement_changelist")


def _of_part(one: PartHealth, trigger: str, text: str, *, name: str) -> Problem:
    return Problem(
        key=key_of(trigger, one.part, one.queue),
        trigger=trigger,
        text=text % {"name": one.name, "text": one.text},
        path=page(name),
    )


def _sources(*, using: str) -> Iterator[Problem]:
    for one in source_statuses(using=using):
        if one.condition in _SOURCES:
            yield Problem(
                key=key_of(SOURCE, one.name, one.condition),
                trigger=SOURCE,
                text=_SOURCES[one.condition](one),
                path=page("outbox_event_sources"),
            )


def _absent(one: SourceStatus) -> str:
    text = _(
        "No process receives the source %(name)s. Start `manage.py outbox receive %(name)s`. Its "
        "messages wait in the other system, which may delete them by age."
    )
    return text % {"name": one.name}


def _not_receiving(one: SourceStatus) -> str:
    text = _(
        "The source %(name)s cannot receive: %(failure)s. Correct the cause. Its process tries "
        "again, and its log has the details."
    )
    return text % {"name": one.name, "failure": one_line(one.failure)}


def _paused(one: SourceStatus) -> str:
    text = _(
        "The source %(name)s is paused, because its events have too many owed deliveries. "
        "`manage.py outbox status` shows the handlers. Give their queues more workers."
    )
    return text % {"name": one.name}


_SOURCES: Mapping[str, Callable[[SourceStatus], str]] = {
    "absent": _absent,
    "failing": _not_receiving,
    "paused": _paused,
}
