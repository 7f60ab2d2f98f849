"""One subscription's part of a pass: under its row's lock, claim deliveries within its window."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import compress

from django.db.models import F, QuerySet

from outbox.conf import conf
from outbox.deliveries import heartbeat, ordering, priorities, settlement, shares
from outbox.deliveries.breaker import circuit_of
from outbox.deliveries.decisions import (
    Claimed,
    cut,
    free_slots,
    message_size,
    next_window,
    probed_window,
    whole_messages,
)
from outbox.deliveries.lease import duration
from outbox.deliveries.statements import (
    Statement,
    execute,
    locking,
    numbers,
    read_each,
    timestamp,
)
from outbox.models import Delivery, Subscription
from outbox.transports.base import Intake, Message

from .backlog import Locked, PendingWork

State = Delivery.State

_LAPSED_PER_PASS = 500
_PARKED_PER_PASS = 1000
_QUICK = timedelta(seconds=1)
#: While a whole message is in flight, fewer deliveries wait for so long to become one. Then they
#: are sent: the workers of those in flight may be dead.
_REST_AFTER = timedelta(seconds=1)
#: Since when due deliveries have waited for that, by database and subscription, in this process.
_rest_since: dict[tuple[str, int], datetime] = {}


@dataclass
class Slots:
    """Messages that a pass may still claim for its own process."""

    left: int


@dataclass
class SubscriptionPass:
    """One subscription during one pass. Its row is locked, so no other relay uses its window."""

    row: Subscription
    work: PendingWork
    now: datetime
    using: str
    claimed: list[Claimed] = field(default_factory=list)
    #: The shares of claimed deliveries by id, where the handler has a `share_window`.
    share_of: dict[int, str | None] = field(default_factory=dict)
    #: The free messages of the relay's own process. None: the workers of all queues take messages.
    slots: Slots | None = None
    #: The breaker's probe, if this pass found that no worker had started it within its lease.
    lost_probe: Claimed | None = None
    #: It sends fewer deliveries than a whole message, although others are in flight.
    sends_rest: bool = False
    #: More deliveries may have to be settled, parked or released than it does at once.
    has_more: bool = False

    @property
    def room(self) -> int:
        """Number of deliveries that may still be sent."""
        if circuit_of(self.row).is_open:
            return 0
        in_flight = self.work.in_flight + len(self.claimed)
        if self.sends_rest:
            return max(0, self.row.window_now - in_flight)
        return free_slots(window=self.row.window_now, in_flight=in_flight, batch=self.batch)

    @property
    def batch(self) -> int:
        """Number of deliveries in a message."""
        row = self.row
        return message_size(window_now=row.window_now, batch=row.batch, is_bulk=row.bulk)

    def housekeep(self) -> None:
        """Handle expired leases, park or release deliveries, and adapt the window."""
        lost = self._settle_lapsed() if self.work.has_lapsed else 0
        if self.row.is_held and self.work.has_pending:
            self._move(State.PENDING, State.PARKED, note=settlement.parking_note(self.row))
        elif not self.row.is_held and self.work.has_parked:
            self._move(State.PARKED, State.PENDING, note="", due_at=self.now)
        if self.work.has_blocked and ordering.recheck(self.row, now=self.now, using=self.using):
            self.work = replace(self.work, has_due=True)
        self._adapt_window(lost=lost)

    def claim(self) -> None:
        """Claim due deliveries, oldest first, as far as there is room, or one probe."""
        key = (self.using, self.row.pk)
        since = _rest_since.pop(key, None)
        self.sends_rest = since is not None and self.now - since >= _REST_AFTER
        circuit = circuit_of(self.row)
        is_probe = circuit.may_probe(self.now)
        limit = 1 if is_probe else self.room
        if self.has_due and not limit and not circuit.is_open:
            _rest_since[key] = since or self.now
        if self.slots is not None:
            limit = min(limit, self.slots.left * self._per_message)
        if not self.has_due or not limit or (is_probe and self._is_probing):
            return
        # The lost probe again: its late message then starts it. In a queue that takes longer than
        # a lease, each message is late, and no other delivery starts while the breaker is open.
        due = found = [self.lost_probe] if is_probe and self.lost_probe else self._due(limit)
        # A probe is alone. A whole message of one share would delay another one.
        if self.row.share_window is None and not is_probe:
            found = found[: self.whole(len(found))]
        if len(found) < len(due):
            _rest_since[key] = since or self.now
        if self.slots is not None:
            facts = [(self.share_of.get(id), attempts) for id, _, attempts in found]
            found = [*compress(found, self.fitting(facts, self.slots))]
        if self.row.share_window is not None:
            are_all = len(found) == len(due) < limit
            last = None if are_all else self.share_of.get(found[-1][0])
            shares.end_turn(self.row, last, using=self.using)
        if found:
            self._send([row[0] for row in found])
        self.claimed += [(id, token + 1, attempts) for id, token, attempts in found]
        if found and is_probe:
            self._note_probe(found[0][0])

    def _send(self, pks: Sequence[int]) -> None:
        until = timestamp(self.lease_until, using=self.using)
        execute(f"{_SEND} WHERE id IN ({numbers(pks)})", until, using=self.using)

    @property
    def has_due(self) -> bool:
        """Whether it may have deliveries to send."""
        # Read when the row was locked. Lost or parked deliveries have become due since.
        work = self.work
        return not self.row.is_held and (work.has_due or work.has_lapsed or work.has_parked)

    def _due(self, limit: int) -> list[Claimed]:
        if self.row.has_priorities:
            return priorities.claimable(self.row, limit=limit, now=self.now, using=self.using)
        if self.row.share_window is None:
            text = _DUE + locking(using=self.using, skip_locked=True)
            values = (self.row.pk, timestamp(self.now, using=self.using), limit)
            (rows,) = read_each(Statement(text, values, is_page=True), using=self.using)
            return rows
        found = shares.claimable(
            self.row,
            self._of_shares,
            limit=limit,
            now=self.now,
            using=self.using,
        )
        self._of_shares.update(one.share for one in found if one.share is not None)
        self.share_of.update((one.id, one.share) for one in found)
        return [one[:3] for one in found]

    @cached_property
    def _of_shares(self) -> Counter[str]:
        """Deliveries in flight by share, including the claims of this pass."""
        return shares.in_flight(self.row, using=self.using)

    @property
    def _is_probing(self) -> bool:
        """Whether the latest probe is still sent: its worker settles it, or another pass does."""
        probe = self.row.breaker_probe
        return probe is not None and self._deliveries().filter(pk=probe, state=State.SENT).exists()

    def _note_probe(self, delivery_id: int) -> None:
        # If the probe is lost, or its worker dies, another one is sent after its lease.
        mine = Subscription.objects.using(self.using).filter(pk=self.row.pk)
        mine.update(breaker_probe=delivery_id, breaker_probe_at=self.lease_until)

    @property
    def lease_until(self) -> datetime:
        """End of the lease of a delivery that is sent now."""
        return self.now + timedelta(seconds=self.row.lease_seconds)

    def has_share(self, share: str | None) -> bool:
        """Return whether a share has room for one more delivery, and count that delivery."""
        if share is None:
            return True
        self._of_shares[share] += 1
        return self._of_shares[share] <= (self.row.share_window or 1)

    def messages(self) -> Iterator[Message]:
        """Yield the messages of the claimed deliveries.

        The worker of the last one nudges the relay afterwards, and those of enough earlier ones
        that the window does not run dry.
        """
        row = self.row
        # If one death makes a delivery dead, it must not end a whole batch.
        is_alone = row.attempts == 1 or conf().MAX_WORKER_CRASHES == 1
        batch = 1 if is_alone else self.batch
        # One message has one share: its deliveries run one after the other.
        by_share: dict[str | None, list[Claimed]] = {}
        for one in self.claimed:
            by_share.setdefault(self.share_of.get(one[0]), []).append(one)
        messages = [part for some in by_share.values() for part in cut(some, batch=batch)]
        may_more_wait = self.may_more_wait
        per_refill = max(1, row.window_now // 4 // self.batch)  # they free room for the next claim
        for left, pairs in zip(range(len(messages) - 1, -1, -1), messages, strict=True):
            # A full share may have a backlog even if the window has room.
            is_last = left % per_refill == 0 or row.share_window is not None
            yield Message(
                row.handler,
                row.queue,
                row.pk,
                pairs,
                refill=may_more_wait and is_last,
            )

    @property
    def _per_message(self) -> int:
        """As `messages` cuts them."""
        is_alone = self.row.attempts == 1 or conf().MAX_WORKER_CRASHES == 1
        return 1 if is_alone else self.batch

    def fitting(self, chosen: Sequence[tuple[str | None, int]], slots: Slots) -> list[bool]:
        """Return which deliveries fit into the free slots, and take the slots of their messages.

        Args:
            chosen: share and number of attempts of each delivery, as `messages` cuts them.
            slots: the free messages.
        """
        fits, fresh, size = [], Counter[str | None](), self._per_message
        for share, attempts in chosen:
            needed = int(bool(attempts) or fresh[share] % size == 0)  # it begins a message
            fits.append(slots.left >= needed)
            if fits[-1]:
                slots.left -= needed
                fresh[share] += not attempts
        return fits

    @property
    def may_more_wait(self) -> bool:
        """Whether so many are in flight that others may wait for a free slot."""
        if self.row.share_window is not None:
            return True
        in_flight = self.work.in_flight + len(self.claimed)
        return in_flight >= min(self.batch, self.row.window_now)

    def whole(self, number: int) -> int:
        """Return how many of `number` further deliveries to send now."""
        if self.sends_rest:
            return number
        in_flight = self.work.in_flight + len(self.claimed)
        return whole_messages(number, in_flight=in_flight, batch=self.batch)

    def _settle_lapsed(self) -> int:
        """Record worker deaths, make lost deliveries due again, and return how many were lost."""
        lapsed = self._rows(State.SENT).filter(due_at__lte=self.now).order_by("due_at")
        rows = list(lapsed[:_LAPSED_PER_PASS])
        # Read after the rows are locked. A worker that stores its outage later waits for these
        # locks, and then finds the deaths to withdraw.
        outage = heartbeat.recent_outage(self.now, using=self.using)
        lost: list[Delivery] = []
        deaths = 0
        for row in rows:
            row.subscription = self.row
            if not row.is_started:
                lost.append(row)
                if row.pk == self.row.breaker_probe:
                    self._note_lost_probe(row)
            elif outage is None or row.due_at < outage:
                settlement.record_death(row, using=self.using)
                deaths += 1
        mine = Delivery.objects.using(self.using).filter(pk__in=[row.pk for row in lost])
        mine.update(
            state=State.PENDING, due_at=self.now, note="no worker started it within its lease"
        )
        self.has_more |= len(rows) == _LAPSED_PER_PASS
        in_flight = self.work.in_flight - len(lost) - deaths
        self.work = replace(self.work, in_flight=max(0, in_flight))
        return len(lost)

    def _note_lost_probe(self, row: Delivery) -> None:
        self.lost_probe = (row.pk, row.token, row.attempts)
        self.share_of[row.pk] = row.share

    def _move(self, before: str, after: str, **values: object) -> None:
        pks = list(
            self._rows(before).order_by("id").values_list("pk", flat=True)[:_PARKED_PER_PASS]
        )
        self._deliveries().filter(pk__in=pks).update(state=after, **values)
        self.has_more |= len(pks) == _PARKED_PER_PASS

    def _adapt_window(self, *, lost: int) -> None:
        first = conf().FIRST_WINDOW
        now = next_window(
            window=self.row.window,
            window_now=self.row.window_now,
            lost=lost,
            room=self.room,
            has_due=self.work.has_due,
            is_quick=self._is_quick,
            first=first,
        )
        is_reduced = now == self.row.window_now < min(self.row.window, first)
        if is_reduced and not lost and self._may_probe_for_workers:
            now = probed_window(
                window=self.row.window, window_now=now, message=self.batch, first=first
            )
        if now != self.row.window_now:
            self.row.window_now = now
            Subscription.objects.using(self.using).filter(pk=self.row.pk).update(window_now=now)

    @property
    def _is_quick(self) -> bool:
        """Whether something is in flight, and all of it was sent or started in the last second."""
        if self.work.first_lease is None:
            return False
        # A batch that has started has a longer lease than a message that has not.
        leases = (duration(number, seconds=self.row.lease_seconds) for number in (1, 2))
        ages = [self.now + lease - self.work.first_lease for lease in leases]
        return any(timedelta(0) <= age < _QUICK for age in ages)

    @property
    def _may_probe_for_workers(self) -> bool:
        """Whether a reduced window delays due deliveries although no message waits for a worker."""
        if not self.work.in_flight or not self.has_due or circuit_of(self.row).is_open:
            return False
        # Of at most `FIRST_WINDOW` rows, and only while a backlog has a reduced window.
        sent = self._deliveries().filter(subscription=self.row, state=State.SENT)
        waiting = sent.filter(due_at__gt=self.now, started_token__lt=F("token"))
        return not waiting.order_by("due_at").values_list("pk")[:1]

    def _deliveries(self) -> QuerySet[Delivery]:
        return Delivery.objects.using(self.using).all()

    def _rows(self, state: str) -> QuerySet[Delivery]:
        rows = self._deliveries().filter(subscription=self.row, state=state)
        return rows.select_for_update(skip_locked=True)


def open_passes(
    locked: Locked,
    now: datetime,
    *,
    only: Collection[str] | None,
    using: str,
) -> dict[int, SubscriptionPass]:
    """Return the subscription passes of the locked subscriptions, by id."""
    return {
        row.pk: SubscriptionPass(row, locked.work[row.pk], now, using)
        for row in locked.subscriptions
        if row.pk in locked.work and (only is None or row.handler in only)
    }


def claim_for(intake: Intake, passes: Collection[SubscriptionPass]) -> Slots:
    """Claim for a process that delivers itself; return the messages that it may still claim.

    Subscriptions share its free messages in a random order, so that a backlog of one delays no
    other. A queue that it does not serve is left to other processes.
    """
    slots, none = Slots(intake.free()), Slots(0)
    served = []
    for one in passes:
        one.slots = slots if intake.serves(one.row.queue) else none
        served += [one] if one.slots is slots and one.has_due else []
    random.shuffle(served)
    for left, one in zip(range(len(served), 0, -1), served, strict=True):
        given = -(-slots.left // left)
        one.slots = Slots(given)
        one.claim()
        slots.left -= given - one.slots.left
        one.slots = slots
    return slots


_SEND = "UPDATE outbox_delivery SET state = 'sent', token = token + 1, due_at = %s, note = ''"
_DUE = """
SELECT id, token, attempts FROM outbox_delivery
WHERE subscription_id = %s AND state = 'pending' AND due_at <= %s
ORDER BY due_at, id LIMIT %s"""
