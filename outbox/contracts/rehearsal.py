"""Rehearsal: read all owed deliveries with this code before a deploy, and report failures.

It runs no handler and changes nothing. It reads owed rows only, by their own indexes, a few hundred
at a time.
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
_NO_HANDLER = "no handler of this name in this code subscribes to the event"
_StoredEvent = Event | DelayedEvent
_NO_FACTS: Mapping[str, Any] = dict.fromkeys(FACTS)


@dataclass(frozen=True)
class Problem:
    """One kind of failure: handler and event by name, the stored version, the reason in words."""

    handler: str
    event: str
    version: int
    reason: str


@dataclass
class Rehearsal:
    """The result of a rehearsal.

    Attributes:
        read: the number of owed deliveries, events that wait for fan-out, and delayed events.
        problems: how many of them each problem concerns.
        examples: some delivery ids, or "event <id>", of each problem.
        unread_queues: handlers with owed deliveries by queue, of queues that this code lacks.
    """

    read: int = 0
    problems: dict[Problem, int] = field(default_factory=lambda: defaultdict(int))
    examples: dict[Problem, list[str]] = field(default_factory=lambda: defaultdict(list))
    unread_queues: dict[str, list[str]] = field(default_factory=dict)

    def note(self, problem: Problem, example: str) -> None:
        """Count a problem and keep a few examples."""
        self.problems[problem] += 1
        if len(self.examples[problem]) < _EXAMPLES:
            self.examples[problem].append(example)


def rehearse(
    *, progress: Callable[[int], object] | None = None, using: str | None = None
) -> Rehearsal:
    """Read every owed delivery, waiting event and delayed event as its handlers would.

    Args:
        progress: called from time to time with the number of rows that were read.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    found = Rehearsal()
    for subscription in Subscription.objects.using(using).order_by("id"):
        handler = _handler_of(subscription)
        is_owed = False
        for delivery in _owed(subscription, using=using):
            is_owed = is_owed or _handles(handler, delivery.event)
            example, target = str(delivery.pk), delivery.target or ""
            _try(
                found, subscription.handler, handler, delivery.event, example=example, target=target
            )
            _count(found, progress)
        if is_owed and subscription.queue not in _queues():
            found.unread_queues.setdefault(subscription.queue, []).append(subscription.handler)
    for event in _not_fanned_out(using=using):
        for name, handler in _subscribers(event, using=using):
            _try(found, name, handler, event, example=f"event {event.id}")
        _count(found, progress)
    return found


def _handler_of(subscription: Subscription) -> Handler | None:
    """Return the handler of the subscription after a migrate of this code, or None."""
    for handler in subscriptions.registry:
        if subscription.handler in (handler.name, *handler.formerly):
            return handler
    return None


def _handles(handler: Handler | None, event: _StoredEvent) -> bool:
    # Not by the subscription's selector: `migrate` changes it when a list of events changed.
    return handler is not None and handler.handles(event.name)


def _queues() -> set[str]:
    return {handler.queue for handler in subscriptions.registry}


def _owed(subscription: Subscription, *, using: str) -> Iterator[Delivery]:
    """Yield a subscription's owed deliveries, by state, since each state has its own index."""
    rows = Delivery.objects.using(using).filter(subscription=subscription)
    for state in Delivery.OWED:
        for ids in _slices(rows.filter(state=state)):
            some = Delivery.objects.using(using).filter(pk__in=ids, state__in=Delivery.OWED)
            yield from some.select_related("event").order_by("pk")


def _not_fanned_out(*, using: str) -> Iterator[_StoredEvent]:
    """Yield the events that wait for fan-out, and the delayed events."""
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


def _subscribers(event: _StoredEvent, *, using: str) -> Iterator[tuple[str, Handler | None]]:
    """Yield the handlers of an event: by this code, and by the rows of the last migrated one."""
    for handler in subscriptions.registry:
        if handler.handles(event.name):
            yield handler.name, handler
    for row in Subscription.objects.using(using).filter(active=True):
        if row.selects(event.name) and not _handles(_handler_of(row), event):
            yield row.handler, None


def _try(
    found: Rehearsal,
    name: str,
    handler: Handler | None,
    event: _StoredEvent,
    *,
    example: str,
    target: str = "",
) -> None:
    reason = _reason(handler, event, target)
    if reason:
        found.note(Problem(name, event.name, event.version, reason), example)


def _reason(handler: Handler | None, event: _StoredEvent, target: str) -> str:
    """Return why a handler could not be called with an event; "" if it could.

    Args:
        handler: the handler of this code, or None.
        event: the stored event.
        target: the target of the delivery; "": it has none, so `targets=` is called first.
    """
    if handler is None:
        return _NO_HANDLER
    if events.find(event.name) is None:
        return "no installed app declares the event"
    if not _handles(handler, event):
        return _NO_HANDLER
    if target and handler.targets is None:
        return "the handler has no targets= in this code, and workers hand the delivery back"
    if upcasting.is_newer(event):
        return "a later release emitted it, in a version that this code does not know"
    try:
        payload = upcasting.current_payload(event)
        if not handler.bulk:  # it takes the stored events, in no types of its own
            handler.arguments(payload=payload, facts=_NO_FACTS)
        if handler.finder is not None and not target:
            handler.finder.arguments(payload=payload, facts=_NO_FACTS)
    except PermanentFailure as error:
        return _without_values(error)
    return ""


def _without_values(error: PermanentFailure) -> str:
    """Return the error in words that are the same for all such events and show no payload."""
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
