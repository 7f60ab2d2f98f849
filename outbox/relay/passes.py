"""The relay's pass: fan events out, and dispatch due deliveries within each handler's window.

A pass plans in one transaction and publishes after its commit. Any number of relays may run. Rows
are claimed under locks that others skip (PostgreSQL) or wait for (SQLite, one writer at a time).
Every claim stores a new token, so a message that is sent twice has no effect the second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from math import inf

from django.db import transaction

from outbox import clock, databases, tracing
from outbox.conf import conf
from outbox.counting import counters, minutes
from outbox.deliveries import failpoints, heartbeat
from outbox.deliveries.statements import bound_transaction
from outbox.deliveries.transient_errors import HUNG_SECONDS, is_transient
from outbox.settlements.overdue import pursue
from outbox.settlements.reporting import report
from outbox.transports.base import Intake, Message, StartingTransport

from .ahead import lock_ahead
from .backlog import Due, Waiting, lock_backlog, read_due_events, read_work
from .delayed import emit_due
from .dispatch import claim_for, open_passes
from .fan_out import fan_out
from .publishing import Publish, in_turn, publish_each

logger = logging.getLogger("outbox.relay")

#: PostgreSQL ends a pass whose process is idle for so many seconds. Its host may be gone, and its
#: locks keep all other relays from its subscriptions.
_IDLE_SECONDS = 10.0
_CONTENDED_SECONDS = 0.02
_CONTENDED_TRIES = 50

#: Seconds to rest after a small pass, unless nudged. This leaves the processor to the broker and
#: the workers.
_REST_SECONDS = 0.01
#: Seconds to rest in any case after a pass with `_FEW` events or more. Otherwise each pass would
#: find a few under steady traffic. A pass and a message take as long for a few as for many.
_PACE_SECONDS = 0.02
_FEW = 5
_SMALL = 100
#: After a pass that took events ahead of a backlog, the pages of this many seconds have a fraction
#: of `FAN_OUT`. The next events of other owners then wait for a short pass.
_SHORT_SECONDS = 1.0
_SHORT = 5
#: If short pages do not reduce the lag of the backlog within `_SHORT_SECONDS`, all pages of so many
#: seconds are full: a full page costs less for each event.
_FULL_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """The result of one pass.

    Attributes:
        messages: messages to publish.
        lease: the shortest lease of a delivery that is sent or started, in seconds.
        fanned_out: number of events that were fanned out.
        is_full: more events may wait than its page had room for.
        lag: seconds for which the oldest event of a full page has waited.
        went_ahead: it fanned out events ahead of such a backlog.
        is_contended: another relay has locked a subscription with due deliveries.
        has_more: more settlements, reports, or lapsed or parked deliveries may be due than a pass
            acts on.
    """

    messages: Sequence[Message] = ()
    lease: float = inf
    fanned_out: int = 0
    is_full: bool = False
    lag: float = 0.0
    went_ahead: bool = False
    is_contended: bool = False
    has_more: bool = False

    @property
    def is_small(self) -> bool:
        """Whether it had so little work that the next pass should wait for more."""
        if self.is_full:
            return False
        return self.fanned_out + sum(len(message.pairs) for message in self.messages) < _SMALL

    @property
    def found_something(self) -> bool:
        """Whether another pass may find work."""
        return bool(self.messages or self.fanned_out or self.has_more)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


class Pace:
    """Decides when a relay rests, which passes first read the backlog, and how long pages are.

    Args:
        rest: waits for so many seconds, or until a nudge, and returns whether one arrived.

    Attributes:
        reads_backlog: whether the latest pass that began reads the backlog first.
        short_from: pages are short between this time of the monotonic clock and `short_until`.
    """

    def __init__(self, rest: Callable[[float], bool] = _sleep) -> None:
        self.reads_backlog = True
        self.short_from = self.short_until = 0.0
        #: The lag at the latest comparison, in seconds, and the time of the next comparison.
        self._lag = self._compare_at = 0.0
        self._rest = rest
        self._last_read = time.monotonic()

    def may_begin(self, *, is_nudged: bool) -> bool:
        """Return whether the next pass may begin without reading the backlog, after a nudge.

        It is False at least every `POLL_SECONDS`: only that read finds deliveries by due time.
        """
        now = time.monotonic()
        self.reads_backlog = True
        if is_nudged and now - self._last_read < conf().POLL_SECONDS:
            self.reads_backlog = False
            return True
        self._last_read = now
        return False

    def note_backlog(self, done: Plan, *, is_short: bool) -> None:
        """Decide whether the next pages are short, after a pass whose page was full."""
        now = time.monotonic()
        if now >= self._compare_at:
            if is_short and done.lag >= self._lag:
                self.short_from = now + _FULL_SECONDS
            self._lag, self._compare_at = done.lag, now + _SHORT_SECONDS
        if done.went_ahead:
            self.short_until = now + _SHORT_SECONDS

    def rest_after(self, done: Plan) -> bool:
        """Rest after a small pass; return whether the next one may begin as after a nudge."""
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
    is_nudged: bool = False,
    is_wanted: Callable[[], bool] = lambda: True,
    pace: Pace | None = None,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
    inline: StartingTransport | None = None,
    intake: Intake | None = None,
) -> int:
    """Run passes until one finds nothing; return the number of published messages.

    With `is_nudged`, the first pass begins without reading the backlog. Under steady traffic each
    pass finds something, so `is_wanted` is called before each further one. Repeated callers keep
    one `pace`. Each pass runs within a context of `around`. A pass may start a delivery that the
    caller must run: `inline.started`.

    Raises `BrokerUnavailable` if the broker takes no message.
    """
    using = using or databases.alias()
    published = contended = 0
    pace = pace or Pace()
    is_nudged = pace.may_begin(is_nudged=is_nudged)
    while True:
        is_short = pace.short_from <= time.monotonic() < pace.short_until
        with around():
            done = relay_pass(
                publish=publish,
                using=using,
                is_nudged=is_nudged,
                inline=inline,
                intake=intake,
                is_short=is_short,
            )
        if done.is_full:
            pace.note_backlog(done, is_short=is_short)
        published += len(done.messages)
        if not is_wanted():
            return published
        if done.found_something or is_nudged:
            is_nudged = pace.rest_after(done) and not done.has_more
            is_nudged = pace.may_begin(is_nudged=is_nudged)
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
    is_nudged: bool = False,
    inline: StartingTransport | None = None,
    intake: Intake | None = None,
    is_short: bool = False,
) -> Plan:
    """Fan out, claim, commit, publish.

    Args:
        publish: dispatches one message; any exception means "not taken".
        using: the outbox's database alias.
        only: send for these handlers only (used by the test kit).
        is_nudged: begin without reading the backlog, and read it briefly. Delayed events, and
            lapsed, parked or blocked deliveries, wait for a pass without it.
        inline: the transport for which it may start a delivery, which the caller then must run.
        intake: limits the claims to what the relay's own process can start soon.
        is_short: fan out at most a fifth of `FAN_OUT` events of a backlog, and emit as many delayed
            ones.

    Raises:
        BrokerUnavailable: the broker took no message, or it hangs. The deliveries are due again
            within a few seconds.
    """
    using = using or databases.alias()
    with databases.serving(using):
        planned = plan(
            using=using,
            only=only,
            is_nudged=is_nudged,
            inline=inline,
            intake=intake,
            is_short=is_short,
        )
        started = inline.started if inline else None
        if started is not None:
            counters.count("sent", started.subscription.handler)
        if planned.messages or started:
            failpoints.reach(failpoints.AFTER_CLAIM)
        published = publish_each(planned.messages, publish, lease=planned.lease, using=using)
        return replace(planned, messages=published)


def plan(
    *,
    using: str,
    only: Collection[str] | None = None,
    is_nudged: bool = False,
    inline: StartingTransport | None = None,
    intake: Intake | None = None,
    is_short: bool = False,
) -> Plan:
    """Do the database part of a pass and return its plan."""
    began, now = time.monotonic(), clock.now(using=using)
    page = max(1, conf().FAN_OUT // _SHORT) if is_short else conf().FAN_OUT
    # Without a lock: an idle pass costs two small reads and no write lock.
    events = Due() if is_nudged else read_due_events(now, using=using)
    has_more = False
    if events.has_overdue or events.has_reports:
        has_more = _keep_settlements(events, using=using)
        began, now = time.monotonic(), clock.now(using=using)
        events = read_due_events(now, using=using)
    if not (is_nudged or events.are_any or _is_any_work(now, using=using)):
        return Plan(has_more=has_more)
    with transaction.atomic(using=using):
        failpoints.reach(failpoints.BEFORE_CLAIM)
        if events.has_delayed:
            bound_transaction(_IDLE_SECONDS, using=using)  # it locks keys
            emit_due(now, at_most=page, using=using)
        locked = lock_backlog(
            now,
            idle_seconds=_IDLE_SECONDS,
            is_brief=is_nudged,
            page=page,
            using=using,
        )
        is_full = len(locked.events) >= page
        ahead = lock_ahead(locked.events, using=using) if is_full else []
        waiting = [*locked.events, *ahead]
        now = clock.now(using=using)  # events may have been stored during the wait
        if (seconds := time.monotonic() - began) >= HUNG_SECONDS:
            # The database may have hung for workers too, so no expired lease is a death.
            heartbeat.record_outage(seconds, using=using)
        passes = open_passes(locked, now, only=only, using=using)
        others = [work for pk, work in locked.work.items() if pk not in passes]
        for subscription_pass in passes.values():
            subscription_pass.housekeep()
            if intake is None:
                subscription_pass.claim()
        slots = claim_for(intake, passes.values()) if intake else None
        if waiting:
            are_all = not others and not ahead  # those ahead were locked after the subscriptions
            fan_out(waiting, passes, now, are_all=are_all, inline=inline, using=using)
    _count(waiting, now)
    traces = [(one.name, one.traceparent, one.emitted_at) for one in waiting]
    tracing.relayed(traces, now)
    place = using if databases.listed() else ""
    each = {pk: mine.messages() for pk, mine in passes.items()}
    messages = [replace(one, database=place) for one in in_turn(each, using=using)]
    started = inline.started.subscription_id if inline and inline.started else None
    sending = [mine.row for pk, mine in passes.items() if mine.claimed or pk == started]
    has_run_out = slots is not None and not slots.left
    if intake and has_run_out:
        intake.note_run_out()
    has_more = has_more or any(mine.has_more for mine in passes.values())
    is_contended = not has_run_out and only is None and any(work.is_any for work in others)
    return Plan(
        messages,
        lease=min((row.lease_seconds for row in sending), default=inf),
        fanned_out=len(waiting),
        is_full=is_full,
        lag=(now - waiting[0].emitted_at).total_seconds() if is_full else 0.0,
        went_ahead=bool(ahead),
        is_contended=is_contended,
        has_more=has_more,
    )


def _keep_settlements(due: Due, *, using: str) -> bool:
    """Act on overdue settlements, and report settled events; return whether more may be due.

    A failure does not stop the relay.
    """
    has_more = False
    for is_due, step in ((due.has_overdue, pursue), (due.has_reports, report)):
        try:
            if is_due:
                has_more = step(using=using) or has_more
        except Exception as error:
            if is_transient(error, using=using):
                raise
            logger.exception("The settlements of other systems could not be kept.")
    return has_more


def _count(events: Sequence[Waiting], now: datetime) -> None:
    minutes.note_events(len(events))
    for event in events if counters.are_on() else ():
        lag = (now - event.emitted_at).total_seconds()
        counters.count("events", event.name)
        counters.observe("fan_out", lag, bounds=counters.WAIT_BOUNDS)


def _is_any_work(now: datetime, *, using: str) -> bool:
    return any(work.is_any for work in read_work(now, using=using).values())
