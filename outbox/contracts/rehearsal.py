"""Read everything that is owed with this code, before a deploy: what would fail, and why.

Nothing is run and nothing is changed. It reads owed rows only, by the indexes of what is owed, a
few hundred at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.db.models import QuerySet
from pydantic import ValidationError

from outbox import databases, events, subscriptions
from outbox.events import FACTS
from outbox.models import DelayedEvent, Delivery, Event, Subscription
from outbox.receipt import PermanentFailure
from outbox.subscriptions import Handler

from . import upcasting

_AT_ONCE = 500
_EXAMPLES = 3
_Told = Event | DelayedEvent
_NO_FACTS: Mapping[str, Any] = dict.fromkeys(FACTS)


@dataclass(frozen=True)
class Problem:
    """One kind of trouble: handler and event by name, the stored version, the reason in words."""

    handler: str
    event: str
    version: int
    reason: str


@dataclass
class Rehearsal:
    """What a rehearsal found.

    Attributes:
        read: owed deliveries, events that wait for fan-out, and those to be told later.
        problems: how many of them each problem concerns.
        examples: some delivery ids, or "event <id>", of each problem.
        unread_queues: handlers by a queue on which no handler of this code works.
    """

    read: int = 0
    problems: dict[Problem, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[Problem, list[str]] = field(default_factory=lambda: defaultdict(list))
    unread_queues: dict[str, list[str]] = field(default_factory=dict)

    def note(self, problem: Problem, example: str) -> None:
        """Count a problem, and keep a few examples of it."""
        self.problems[problem] += 1
        if len(self.examples[problem]) < _EXAMPLES:
            self.examples[problem].append(example)


def rehearse(
    *, progress: Callable[[int], object] | None = None, using: str | None = None
) -> Rehearsal:
    """Read every owed delivery, and every event that waits or is told later, as its handler would.

    Args:
        progress: called now and then with the number of rows that were read so far.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    found = Rehearsal()
    for subscription in Subscription.objects.using(using).order_by("id"):
        handler = _handler_of(subscription)
        owed = 0
        for delivery in _owed(subscription, using=using):
            owed += 1
            _try(found, subscription.handler, handler, delivery.event, example=str(delivery.pk))
            _count(found, progress)
        if owed and handler and subscription.queue not in _queues():
            found.unread_queues.setdefault(subscription.queue, []).append(subscription.handler)
    for event in _untold(using=using):
        for name, handler in _subscribers(event, using=using):
            _try(found, name, handler, event, example=f"event {event.id}")
        _count(found, progress)
    return found


def _handler_of(subscription: Subscription) -> Handler | None:
    """Return who would be given the subscription's deliveries after a migrate of this code."""
    for handler in subscriptions.registry:
        if subscription.handler in (handler.name, *handler.formerly):
            return handler if subscription.event in handler.events else None
    return None


def _queues() -> set[str]:
    return {handler.queue for handler in subscriptions.registry}


def _owed(subscription: Subscription, *, using: str) -> Iterator[Delivery]:
    """Yield what a handler is owed; state by state, since each has an index of its own."""
    rows = Delivery.objects.using(using).filter(subscription=subscription)
    for state in Delivery.OWED:
        for ids in _slices(rows.filter(state=state)):
            some = Delivery.objects.using(using).filter(pk__in=ids, state__in=Delivery.OWED)
            yield from some.select_related("event").order_by("pk")


def _untold(*, using: str) -> Iterator[_Told]:
    """Yield the events that wait for fan-out, and those that are told later."""
    rows = Event.objects.using(using).filter(fanned_out_at=None)
    for ids in _slices(rows.order_by("seq")):
        yield from Event.objects.using(using).filter(pk__in=ids).order_by("seq")
    delayed = DelayedEvent.objects.using(using)
    for ids in _slices(delayed.order_by("due_at", "id")):
        yield from delayed.filter(pk__in=ids).order_by("due_at", "id")


def _slices(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    ids = rows.values_list("pk", flat=True).iterator(chunk_size=_AT_ONCE)
    while some := list(islice(ids, _AT_ONCE)):
        yield some


def _subscribers(event: _Told, *, using: str) -> Iterator[tuple[str, Handler | None]]:
    """Yield who is told of an event that waits: by this code, and by the rows of the last one."""
    for handler in subscriptions.registry:
        if event.name in handler.events:
            yield handler.name, handler
    rows = Subscription.objects.using(using).filter(event=event.name, active=True)
    for row in rows:
        if _handler_of(row) is None:
            yield row.handler, None


def _try(
    found: Rehearsal,
    name: str,
    handler: Handler | None,
    event: _Told,
    *,
    example: str,
) -> None:
    reason = _reason(handler, event)
    if reason:
        found.note(Problem(name, event.name, event.version, reason), example)


def _reason(handler: Handler | None, event: _Told) -> str:
    """Say why a handler could not be given an event; "" where it could."""
    if handler is None:
        return "no handler of this code hears it under this name"
    if events.find(event.name) is None:
        return "no installed app declares the event"
    if upcasting.is_newer(event):
        return "a later release told it, in a version that this code does not know"
    try:
        handler.arguments(payload=upcasting.current_payload(event), facts=_NO_FACTS)
    except PermanentFailure as error:
        return _without_values(error)
    return ""


def _without_values(error: PermanentFailure) -> str:
    """Say what is wrong in words that are the same for all such events, and show no payload."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return str(error).splitlines()[0]
    where = str(error).partition(":")[0]
    wrong = cause.errors(include_input=False, include_url=False, include_context=False)
    return f"{where}: " + ", ".join(dict.fromkeys(one["msg"] for one in wrong))


def _count(found: Rehearsal, progress: Callable[[int], object] | None) -> None:
    found.read += 1
    if progress and found.read % _AT_ONCE == 0:
        progress(found.read)
