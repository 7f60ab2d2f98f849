"""Lanes: one subscription's share of a pass of the relay, while it holds the row's lock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from outbox.conf import conf
from outbox.models import Delivery, Subscription

from . import ordering, settlement
from .breaker import circuit_of
from .decisions import Claimed, cut, next_window

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

State = Delivery.State

_LAPSED_PER_PASS = 500
_PARKED_PER_PASS = 1000


class Work(TypedDict):
    """What there is to do for a subscription, as one read tells it."""

    has_pending: bool
    has_due: bool
    has_lapsed: bool
    has_parked: bool
    has_blocked: bool
    in_flight: int


@dataclass
class Lane:
    """One subscription during one pass: its row is locked, so its window is one relay's."""

    row: WithAnnotations[Subscription, Work]
    now: datetime
    using: str
    in_flight: int
    claimed: list[Claimed] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many more may be sent."""
        if circuit_of(self.row).is_open:
            return 0
        return max(0, self.row.window_now - self.in_flight - len(self.claimed))

    def tidy(self) -> None:
        """Settle passed leases, move what must be parked or set free, adapt the window."""
        lost = self._settle_lapsed() if self.row.has_lapsed else 0
        if self.row.is_held and self.row.has_pending:
            self._move(State.PENDING, State.PARKED, note=settlement.parking_note(self.row))
        elif not self.row.is_held and self.row.has_parked:
            self._move(State.PARKED, State.PENDING, note="", due_at=self.now)
        if self.row.has_blocked and ordering.look_again(self.row, now=self.now, using=self.using):
            self.row.has_due = True
        self._adapt_window(lost=lost)

    def claim(self) -> None:
        """Send what is due, oldest first, as far as there is room, or a probe."""
        is_probe = circuit_of(self.row).may_probe(self.now)
        limit = 1 if is_probe else self.room
        if not self._has_due() or not limit:
            return
        due = self._rows(State.PENDING).filter(due_at__lte=self.now).order_by("due_at", "id")
        found = list(due[:limit].values_list("id", "token", "attempts"))
        if found:
            self._deliveries().filter(id__in=[row[0] for row in found]).update(
                state=State.SENT, token=F("token") + 1, due_at=self.lease_until, note=""
            )
        self.claimed += [(id, token + 1, attempts) for id, token, attempts in found]
        if found and is_probe:
            self._note_probe(found[0][0])

    def _has_due(self) -> bool:
        # By what was read with the lock; a lost or parked delivery has become due since.
        row = self.row
        return not row.is_held and (row.has_due or row.has_lapsed or row.has_parked)

    def _note_probe(self, delivery_id: int) -> None:
        # If the probe is lost, or its worker dies, another one is sent when its lease has passed.
        mine = Subscription.objects.using(self.using).filter(pk=self.row.pk)
        mine.update(breaker_probe=delivery_id, breaker_probe_at=self.lease_until)

    @property
    def lease_until(self) -> datetime:
        """When the lease passes of what is sent now."""
        return self.now + timedelta(seconds=self.row.lease_seconds)

    def newborn(self, seq: int, *, key: str, is_behind: bool) -> Delivery:
        """Make the delivery of an event that is fanned out: sent at once where there is room."""
        row = newborn(seq, self.row, now=self.now, key=key, is_behind=is_behind)
        if row.state == State.PENDING and self.row.is_held:
            row.state, row.note = State.PARKED, settlement.parking_note(self.row)
        elif row.state == State.PENDING and self.room:
            row.state, row.token, row.due_at = State.SENT, 1, self.lease_until
            self.in_flight += 1
        return row

    def messages(self) -> Iterator[tuple[tuple[int, int], ...]]:
        """Cut what was claimed into messages."""
        yield from cut(self.claimed, batch=1 if self._first_death_is_last else self.row.batch)

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
        now = next_window(
            window=self.row.window,
            window_now=self.row.window_now,
            batch=self.row.batch,
            lost=lost,
            room=self.room,
            has_due=self.row.has_due,
        )
        if now != self.row.window_now:
            self.row.window_now = now
            Subscription.objects.using(self.using).filter(pk=self.row.pk).update(window_now=now)

    def _deliveries(self) -> QuerySet[Delivery]:
        return Delivery.objects.using(self.using)

    def _rows(self, state: str) -> QuerySet[Delivery]:
        rows = self._deliveries().filter(subscription=self.row, state=state)
        return rows.select_for_update(skip_locked=True)


def newborn(seq: int, row: Subscription, *, now: datetime, key: str, is_behind: bool) -> Delivery:
    """Make an event's delivery, in its line where the handler is ordered."""
    delivery = Delivery(event_id=seq, subscription=row, due_at=now)
    if row.ordered:
        delivery.order_key = key
    if is_behind:
        delivery.state, delivery.note = State.BLOCKED, ordering.NOTE
        delivery.due_at = ordering.first_look(now)
    return delivery


def busy_subscriptions(now: datetime, *, using: str) -> set[int]:
    """Look without a lock, so that an idle pass costs two small reads and never a write lock."""
    return {row.pk for row in _subscriptions(now, using=using) if _is_busy(row, now)}


def _is_busy(row: WithAnnotations[Subscription, Work], now: datetime) -> bool:
    if row.has_lapsed or row.has_blocked:
        return True
    if row.is_held:
        return row.has_pending
    circuit = circuit_of(row)
    return row.has_parked or (row.has_due and (not circuit.is_open or circuit.may_probe(now)))


def open_lanes(now: datetime, *, using: str, only: Collection[str] | None) -> dict[int, Lane]:
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
    return {row.pk: Lane(row, now, using, row.in_flight) for row in mine}


def _subscriptions(now: datetime, *, using: str) -> QuerySet[WithAnnotations[Subscription, Work]]:
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
            has_blocked=Exists(mine.filter(state=State.BLOCKED, due_at__lte=now)),
            in_flight=Coalesce(Subquery(count, output_field=IntegerField()), 0),
        )
    )
