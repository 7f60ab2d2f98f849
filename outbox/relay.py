"""The relay: events to deliveries, and what is due to the broker, within each handler's window.

A pass plans in one transaction and publishes after its commit. Any number of relays may run: rows
are claimed under locks that others skip (PostgreSQL) or wait for (SQLite, one writer at a time),
and every claim carries a new token, so a message sent twice does nothing the second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from django.db import transaction
from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from . import failpoints, settlement
from .conf import conf
from .models import Delivery, Event, Subscription

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

State = Delivery.State

_LAPSED_PER_PASS = 500
_PARKED_PER_PASS = 1000
_CONTENDED_SECONDS = 0.02
_CONTENDED_TRIES = 50


class BrokerUnavailable(Exception):
    """The broker took no message. Nothing is lost: what was claimed is due again at once."""


@dataclass(frozen=True)
class Message:
    """What goes to the broker: one handler's deliveries, by id and token, and nothing else.

    Attributes:
        handler: pinned name.
        queue: the handler's queue.
        pairs: (delivery id, token) of each delivery.
        refill: more is waiting in the database; the worker nudges the relay when it is through.
    """

    handler: str
    queue: str
    pairs: tuple[tuple[int, int], ...]
    refill: bool = False


Publish = Callable[[Message], None]


@dataclass(frozen=True)
class Plan:
    """What one pass decided.

    Attributes:
        messages: to be published.
        fanned_out: number of events that became deliveries.
        is_contended: another relay held a subscription for which something is due.
    """

    messages: Sequence[Message] = ()
    fanned_out: int = 0
    is_contended: bool = False

    @property
    def found_something(self) -> bool:
        """Whether another pass is worth its while."""
        return bool(self.messages or self.fanned_out)


def relay(
    *, publish: Publish, using: str = "default", is_wanted: Callable[[], bool] = lambda: True
) -> int:
    """Run passes until one finds nothing; return how many messages were published.

    Under steady traffic each finds something, so `is_wanted` is asked before each further pass.

    Raises `BrokerUnavailable` when the broker takes no message.
    """
    published = contended = 0
    while True:
        done = relay_pass(publish=publish, using=using)
        published += len(done.messages)
        if not is_wanted():
            return published
        if done.found_something:
            continue
        if not done.is_contended or contended == _CONTENDED_TRIES:
            return published
        contended += 1
        time.sleep(_CONTENDED_SECONDS)


def relay_pass(
    *, publish: Publish, using: str = "default", only: Collection[str] | None = None
) -> Plan:
    """Fan out, claim, commit, publish.

    Args:
        publish: hands one message to the broker; whatever it raises means "not taken".
        using: the outbox's database alias.
        only: send for these handlers alone (the test kit asks for that).

    Raises:
        BrokerUnavailable: a message was not taken. It and those after it are due again at once.
    """
    planned = plan(using=using, only=only)
    if planned.messages:
        failpoints.reach(failpoints.AFTER_CLAIM)
    for number, message in enumerate(planned.messages):
        try:
            publish(message)
        except Exception as error:
            _hand_back(planned.messages[number:], error, using=using)
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        failpoints.reach(failpoints.AFTER_PUBLISH)
    return planned


def plan(*, using: str, only: Collection[str] | None = None) -> Plan:
    """Do a pass's database half and return what is to be published."""
    now = timezone.now()
    busy = _busy_subscriptions(now, using=using)
    if not busy and not _waiting_events(using=using).exists():
        return Plan()
    with transaction.atomic(using=using):
        failpoints.reach(failpoints.BEFORE_CLAIM)
        lanes = _open_lanes(now, using=using, only=only)
        for lane in lanes.values():
            lane.tidy()
            lane.claim()
        fanned_out = _fan_out(lanes, now, using=using)
    messages = [message for lane in lanes.values() for message in lane.messages()]
    return Plan(messages, fanned_out, is_contended=only is None and bool(busy - lanes.keys()))


class _Work(TypedDict):
    has_pending: bool
    has_due: bool
    has_lapsed: bool
    has_parked: bool
    in_flight: int


@dataclass
class _Lane:
    """One subscription during one pass: its row is locked, so its window is one relay's."""

    row: WithAnnotations[Subscription, _Work]
    now: datetime
    using: str
    in_flight: int
    claimed: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def room(self) -> int:
        return max(0, self.row.window_now - self.in_flight - len(self.claimed))

    def tidy(self) -> None:
        """Settle passed leases, move what must be parked or set free, adapt the window."""
        lost = self._settle_lapsed() if self.row.has_lapsed else 0
        if self.row.is_held and self.row.has_pending:
            self._move(State.PENDING, State.PARKED, note=settlement.parking_note(self.row))
        elif not self.row.is_held and self.row.has_parked:
            self._move(State.PARKED, State.PENDING, note="", due_at=self.now)
        self._adapt_window(lost=lost)

    def claim(self) -> None:
        """Send what is due, oldest first, as far as there is room."""
        if not self._has_due() or not self.room:
            return
        due = self._rows(State.PENDING).filter(due_at__lte=self.now).order_by("due_at", "id")
        found = list(due[: self.room].values_list("id", "token", "attempts"))
        if found:
            self._deliveries().filter(id__in=[row[0] for row in found]).update(
                state=State.SENT, token=F("token") + 1, due_at=self.lease_until, note=""
            )
        self.claimed += [(id, token + 1, attempts) for id, token, attempts in found]

    def _has_due(self) -> bool:
        # By what was read with the lock; a lost or parked delivery has become due since.
        row = self.row
        return not row.is_held and (row.has_due or row.has_lapsed or row.has_parked)

    @property
    def lease_until(self) -> datetime:
        return self.now + timedelta(seconds=self.row.lease_seconds)

    def newborn(self, seq: int) -> Delivery:
        """Make the delivery of an event that is fanned out: sent at once where there is room."""
        row = Delivery(event_id=seq, subscription=self.row, due_at=self.now)
        if self.row.is_held:
            row.state, row.note = State.PARKED, settlement.parking_note(self.row)
        elif self.room:
            row.state, row.token, row.due_at = State.SENT, 1, self.lease_until
            self.in_flight += 1
        return row

    def messages(self) -> Iterator[Message]:
        """Cut what was claimed into messages; what once failed travels alone."""
        fresh = [(id, token) for id, token, attempts in self.claimed if not attempts]
        size = 1 if self._first_death_is_last else self.row.batch
        batches = [fresh[start : start + size] for start in range(0, len(fresh), size)]
        batches += [[(id, token)] for id, token, attempts in self.claimed if attempts]
        for batch in batches:
            yield Message(self.row.handler, self.row.queue, tuple(batch), refill=not self.room)

    @property
    def _first_death_is_last(self) -> bool:
        """Whether one death ends a delivery; a batch would then be dead for one of its own."""
        return self.row.attempts == 1 or conf().DEATHS == 1

    def _settle_lapsed(self) -> int:
        """Tell a worker that died from a message that was lost; return how many were lost."""
        lapsed = self._rows(State.SENT).filter(due_at__lte=self.now).order_by("due_at")
        lost = []
        for row in lapsed[:_LAPSED_PER_PASS]:
            row.subscription = self.row
            if row.is_started:
                settlement.record_death(row, using=self.using)
            else:
                lost.append(row.pk)
        self._deliveries().filter(pk__in=lost).update(
            state=State.PENDING, due_at=self.now, note="no worker started it within its lease"
        )
        return len(lost)

    def _move(self, before: str, after: str, **values: object) -> None:
        pks = list(
            self._rows(before).order_by("id").values_list("pk", flat=True)[:_PARKED_PER_PASS]
        )
        self._deliveries().filter(pk__in=pks).update(state=after, **values)

    def _adapt_window(self, *, lost: int) -> None:
        """Halve the window when messages outwait their lease; double it when it runs dry.

        So a slow handler's backlog stays in the database instead of being sent in circles.
        """
        now, room = self.row.window_now, self.row.window_now
        if lost:
            now = max(min(self.row.batch, self.row.window), now // 2)
        elif self.row.has_due and room < self.row.window and self.room > room * 3 // 4:
            now = min(self.row.window, now * 2)
        if now != self.row.window_now:
            self.row.window_now = now
            Subscription.objects.using(self.using).filter(pk=self.row.pk).update(window_now=now)

    def _deliveries(self) -> QuerySet[Delivery]:
        return Delivery.objects.using(self.using)

    def _rows(self, state: str) -> QuerySet[Delivery]:
        rows = self._deliveries().filter(subscription=self.row, state=state)
        return rows.select_for_update(skip_locked=True)


def _busy_subscriptions(now: datetime, *, using: str) -> set[int]:
    """Look without a lock, so that an idle pass costs two small reads and never a write lock."""
    return {
        row.pk
        for row in _subscriptions(now, using=using)
        if row.has_lapsed
        or (row.has_parked and not row.is_held)
        or (row.has_pending if row.is_held else row.has_due)
    }


def _waiting_events(*, using: str) -> QuerySet[Event]:
    return Event.objects.using(using).filter(fanned_out_at=None).order_by("seq")


def _open_lanes(now: datetime, *, using: str, only: Collection[str] | None) -> dict[int, _Lane]:
    """Lock the subscriptions that no other relay works on right now, then read their state.

    In two statements: one alone may count what is in flight as it was before another relay, which
    has just let go of the lock, sent its part.
    """
    rows = Subscription.objects.using(using).filter(active=True).order_by("id")
    if only is not None:
        rows = rows.filter(handler__in=only)
    # no_key: the foreign keys of deliveries that others insert need not wait for this lock.
    free = rows.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
    mine = _subscriptions(now, using=using).filter(pk__in=list(free)).order_by("id")
    return {row.pk: _Lane(row, now, using, row.in_flight) for row in mine}


def _subscriptions(now: datetime, *, using: str) -> QuerySet[WithAnnotations[Subscription, _Work]]:
    mine = Delivery.objects.using(using).filter(subscription=OuterRef("pk"))
    sent = mine.filter(state=State.SENT, due_at__gt=now).order_by()
    count = sent.values("subscription").annotate(n=Count("*")).values("n")
    return (
        Subscription.objects.using(using)
        .filter(active=True)
        .annotate(
            has_pending=Exists(mine.filter(state=State.PENDING)),
            has_due=Exists(mine.filter(state=State.PENDING, due_at__lte=now)),
            has_lapsed=Exists(mine.filter(state=State.SENT, due_at__lte=now)),
            has_parked=Exists(mine.filter(state=State.PARKED)),
            in_flight=Coalesce(Subquery(count, output_field=IntegerField()), 0),
        )
    )


def _fan_out(lanes: dict[int, _Lane], now: datetime, *, using: str) -> int:
    waiting = _waiting_events(using=using).select_for_update(skip_locked=True)
    events = list(waiting.values_list("seq", "name")[: conf().FAN_OUT])
    if not events:
        return 0
    hearers = _hearers({name for _, name in events}, using=using)
    born = []
    for seq, name in events:
        for row in hearers.get(name, ()):
            lane = lanes.get(row.pk)
            born.append(lane.newborn(seq) if lane else _pending(seq, row, now))
    Delivery.objects.using(using).bulk_create(born)
    for delivery in born:
        if delivery.state == State.SENT:
            lane = lanes[delivery.subscription_id]
            lane.in_flight -= 1
            lane.claimed.append((delivery.pk, delivery.token, 0))
    Event.objects.using(using).filter(seq__in=[seq for seq, _ in events]).update(fanned_out_at=now)
    return len(events)


def _hearers(names: set[str], *, using: str) -> dict[str, list[Subscription]]:
    hearers: dict[str, list[Subscription]] = {}
    rows = Subscription.objects.using(using).filter(active=True, event__in=names)
    for row in rows.order_by("id"):
        hearers.setdefault(row.event, []).append(row)
    return hearers


def _pending(seq: int, row: Subscription, now: datetime) -> Delivery:
    """Make a delivery whose subscription another relay holds; a later pass sends it."""
    return Delivery(event_id=seq, subscription=row, due_at=now)


def _hand_back(messages: Sequence[Message], error: Exception, *, using: str) -> None:
    note = f"the broker did not take it: {type(error).__name__}: {error}"
    for message in messages:
        settlement.hand_back(message.pairs, note=note, using=using)
