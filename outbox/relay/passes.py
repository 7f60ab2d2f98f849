"""The relay: events to deliveries, and what is due to the broker, within each handler's window.

A pass plans in one transaction and publishes after its commit. Any number of relays may run: rows
are claimed under locks that others skip (PostgreSQL) or wait for (SQLite, one writer at a time),
and every claim carries a new token, so a message sent twice does nothing the second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction

from outbox import clock, databases, tracing
from outbox.conf import conf
from outbox.counting import counters
from outbox.deliveries import failpoints, heartbeat, settlement
from outbox.deliveries.statements import bound_transaction, bounds, read_each
from outbox.deliveries.transient_errors import HUNG_SECONDS, retry_transient

from .backlog import Due, PendingWork, look, look_at_events, looking, work_of
from .delayed import tell_due
from .dispatch import SubscriptionPass, free_subscriptions, open_lanes
from .fan_out import Inline, Waiting, fan_out, subscribers_of, waiting_events, waiting_of

#: A pass whose process does nothing for so long is ended by PostgreSQL: its host may be gone, and
#: it keeps all other relays from the subscriptions that it has locked.
_IDLE_SECONDS = 10.0
_CONTENDED_SECONDS = 0.02
_CONTENDED_TRIES = 50

#: How long the relay rests after a small pass, or until it is nudged: so it leaves the processor to
#: those who hand on, and handle, what was published.
_REST_SECONDS = 0.01
#: How long it rests in any case after a pass with more than a few events. Under steady traffic it
#: would else find a few in each, and a pass and a message take as long for a few as for many.
_PACE_SECONDS = 0.02
_FEW = 5
_SMALL = 100


class BrokerUnavailable(Exception):
    """The broker took no message. Nothing is lost: what was claimed is due again soon."""


@dataclass(frozen=True)
class Message:
    """What goes to the broker: deliveries of one subscription, by id and token, and nothing else.

    Attributes:
        handler: pinned name.
        queue: the handler's queue.
        subscription: id of what they are owed by.
        pairs: (delivery id, token) of each delivery.
        refill: more is waiting in the database; the worker nudges the relay when it is through.
    """

    handler: str
    queue: str
    subscription: int
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
    def is_small(self) -> bool:
        """Whether it was hardly worth a pass, so that the next one is better with more."""
        return self.fanned_out + sum(len(message.pairs) for message in self.messages) < _SMALL

    @property
    def found_something(self) -> bool:
        """Whether another pass is worth its while."""
        return bool(self.messages or self.fanned_out)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class Pace:
    """How long a relay rests between passes, and which of them look before they begin.

    Args:
        rest: waits for so many seconds, or until something is told, and says which.
    """

    def __init__(self, rest: Callable[[float], bool] = _sleep) -> None:
        self._rest = rest
        self._looked = time.monotonic()

    def may_begin(self, *, is_told: bool) -> bool:
        """Tell whether the next pass may begin without a look, since something was told.

        However often that is so: what is due by its time, only a look finds.
        """
        now = time.monotonic()
        if is_told and now - self._looked < conf().POLL_SECONDS:
            return True
        self._looked = now
        return False

    def rest_after(self, done: Plan) -> bool:
        """Rest after a small pass; tell whether something was told meanwhile."""
        if not done.is_small:
            return False
        if done.fanned_out < _FEW:
            return self._rest(_REST_SECONDS)
        time.sleep(_PACE_SECONDS)
        return True


def relay(
    *,
    publish: Publish,
    using: str | None = None,
    is_hinted: bool = False,
    is_wanted: Callable[[], bool] = lambda: True,
    pace: Pace | None = None,
    report: Callable[[Plan], object] | None = None,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
    inline: Inline | None = None,
) -> int:
    """Run passes until one finds nothing; return how many messages were published.

    Where `is_hinted` says that somebody has just told something, the first pass need not look
    before it begins. Under steady traffic each pass finds something, so `is_wanted` is asked before
    each further one. Who relays again and again keeps one `pace`. `report` is told what each pass
    has planned, and each runs within a context of `around`. A pass may start a delivery for the
    caller to run: `express.started`.

    Raises `BrokerUnavailable` when the broker takes no message.
    """
    using = using or databases.alias()
    published = contended = 0
    pace = pace or Pace()
    is_hinted = pace.may_begin(is_told=is_hinted)
    while True:
        with around():
            done = relay_pass(
                publish=publish, using=using, report=report, is_hinted=is_hinted, inline=inline
            )
        published += len(done.messages)
        if not is_wanted():
            return published
        if done.found_something or is_hinted:
            is_hinted = pace.may_begin(is_told=pace.rest_after(done))
            continue
        if not done.is_contended or contended == _CONTENDED_TRIES:
            return published
        contended += 1
        time.sleep(_CONTENDED_SECONDS)


def relay_pass(
    *,
    publish: Publish,
    using: str | None = None,
    only: Collection[str] | None = None,
    report: Callable[[Plan], object] | None = None,
    is_hinted: bool = False,
    inline: Inline | None = None,
) -> Plan:
    """Fan out, claim, commit, publish.

    Args:
        publish: hands one message to the broker; whatever it raises means "not taken".
        using: the outbox's database alias.
        only: send for these handlers alone (the test kit asks for that).
        report: is told what is planned, committed by then, before it is published.
        is_hinted: begin without a look whether there is anything to do, and look briefly. Delayed
            events, and what is lapsed, parked or blocked, wait for a pass that is not.
        express: for which handlers it may start a delivery, which the caller then has to run.

    Raises:
        BrokerUnavailable: a message was not taken. It and those after it are due again within
            a few seconds.
    """
    using = using or databases.alias()
    planned = plan(using=using, only=only, is_hinted=is_hinted, inline=inline)
    if report is not None:
        report(planned)
    started = inline.started if inline else None
    if started is not None:
        counters.count("sent", started.subscription.handler)
    if planned.messages or started:
        failpoints.reach(failpoints.AFTER_CLAIM)
    for number, message in enumerate(planned.messages):
        try:
            publish(message)
        except Exception as error:
            counters.count("broker_failures")
            _hand_back(planned.messages[number:], error, using=using)
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
        counters.count("messages", message.handler)
        counters.count("sent", message.handler, number=len(message.pairs))
        failpoints.reach(failpoints.AFTER_PUBLISH)
    return planned


def plan(
    *,
    using: str,
    only: Collection[str] | None = None,
    is_hinted: bool = False,
    inline: Inline | None = None,
) -> Plan:
    """Do a pass's database half and return what is to be published."""
    asked, now = time.monotonic(), clock.now(using=using)
    # Without a lock, so that an idle pass costs two small reads and never a write lock.
    events = Due() if is_hinted else look_at_events(now, using=using)
    if not (is_hinted or events.are_any or _is_any_work(now, using=using)):
        return Plan()
    with transaction.atomic(using=using):
        failpoints.reach(failpoints.BEFORE_CLAIM)
        if events.has_delayed:
            bound_transaction(_IDLE_SECONDS, using=using)  # it locks keys
            tell_due(now, using=using)
        taken = _take(now, using=using, only=only, is_hinted=is_hinted)
        if (seconds := time.monotonic() - asked) >= HUNG_SECONDS:
            # The database may have stood still, for workers as well: their leases are not judged.
            heartbeat.record_outage(seconds, using=using)
        for lane in taken.lanes.values():
            lane.housekeep()
            lane.claim()
        if taken.events:
            _fan_out(taken, inline=inline, using=using)
    _count(taken.events, taken.now)
    traces = [(one.name, one.traceparent, one.emitted_at) for one in taken.events]
    tracing.relayed(traces, taken.now)
    messages = [message for lane in taken.lanes.values() for message in _messages(lane)]
    is_contended = only is None and any(work.is_any for work in taken.others.values())
    return Plan(messages, len(taken.events), is_contended=is_contended)


@dataclass(frozen=True)
class _Taken:
    """What one pass works on, locked until it commits; `others`: what it could not lock."""

    now: datetime
    events: Sequence[Waiting]
    lanes: Mapping[int, SubscriptionPass]
    others: Mapping[int, PendingWork]


def _take(began: datetime, *, using: str, only: Collection[str] | None, is_hinted: bool) -> _Taken:
    bound = bounds(_IDLE_SECONDS, using=using)
    # Events first: a handler that is there when an event is stored is found after it.
    *_, events, free, looked = read_each(
        *bound,
        waiting_events(using=using),
        free_subscriptions(using=using),
        looking(began, using=using, is_brief=is_hinted),
        using=using,
    )
    now = clock.now(using=using)  # events may have come while this waited
    work = work_of(looked, now=began, using=using)
    lanes = open_lanes(free, work, now, using=using, only=only)
    others = {pk: one for pk, one in work.items() if pk not in lanes}
    return _Taken(now, waiting_of(events, using=using), lanes, others)


def _fan_out(taken: _Taken, *, inline: Inline | None, using: str) -> None:
    rows = None if taken.others else [lane.row for lane in taken.lanes.values()]
    subscribers = subscribers_of(taken.events, rows, using=using)
    fan_out(taken.events, subscribers, taken.lanes, taken.now, inline=inline, using=using)


def _count(told: Sequence[Waiting], now: datetime) -> None:
    for event in told if counters.are_on() else ():
        lag = (now - event.emitted_at).total_seconds()
        counters.count("events", event.name)
        counters.observe("fan_out", lag, bounds=counters.WAIT_BOUNDS)


def _is_any_work(now: datetime, *, using: str) -> bool:
    return any(work.is_any for work in look(now, using=using).values())


def _messages(lane: SubscriptionPass) -> Iterator[Message]:
    for pairs, refill in lane.messages():
        yield Message(lane.row.handler, lane.row.queue, lane.row.pk, pairs, refill=refill)


def _hand_back(messages: Sequence[Message], error: Exception, *, using: str) -> None:
    note = f"the broker did not take it: {type(error).__name__}: {error}"
    pairs = [pair for message in messages for pair in message.pairs]
    # A worker may start some of them meanwhile: a broker that hangs up may have taken the message.
    back = partial(settlement.hand_back, pairs, note=note, using=using)
    retry_transient(back, using=using)
