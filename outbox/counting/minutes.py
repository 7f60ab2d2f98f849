"""Recent throughput: of each minute, for the overview and for charts, and of each event.

Each process counts in memory (`buffer.py`) and adds the counts to one small row for each minute and
handler. So these queries count no events or deliveries, however many are stored. `rates()` and
`emitter_shares()` count the newest events, 5,000 at most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import Any, Protocol

from django.db import transaction
from django.db.models import Count, F, Max, QuerySet, Sum

from outbox import clock, databases
from outbox.models import Delivery, Event, Minute
from outbox.receipt import LeaseLost

from .buffer import Buffer
from .counters import WAIT_BOUNDS

#: How long the rows are kept.
KEPT = timedelta(hours=25)

#: The time over which `rates` measures, and the most rows that it reads.
_RATE_WINDOW = timedelta(minutes=10)
_MOST_RATE_ROWS = 5000

_MINUTE = timedelta(minutes=1)
_PRUNED_EVERY = timedelta(minutes=10)
_NEVER = datetime.min.replace(tzinfo=UTC)
_COUNTS = ("events", "done", "failed", "dead")
#: A histogram's column for each bound, and one for longer times.
_COLUMNS = tuple(f"lag_{number}" for number in range(len(WAIT_BOUNDS) + 1))

#: The values that are summed, and all that is read.
_SUMMED = (*_COUNTS, "seconds", *_COLUMNS)
_READ = (*_SUMMED, "few_lags")

#: Most done deliveries of a minute whose times are stored one by one.
_FEW = 20
#: Prefix of a time among the counts: "=0.25" counts the deliveries that were done after 0.25 s.
_EXACT = "="

#: A minute and a handler; "" for the sum of all handlers.
Place = tuple[datetime, str]


class Ended(Protocol):
    """The result of a delivery, as far as it is counted."""

    @property
    def state(self) -> str: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def lag(self) -> float: ...


@dataclass(frozen=True)
class Totals:
    """The throughput in a period.

    Attributes:
        start: the start of the period.
        length: its length, up to a minute more than was asked for: a period begins with a minute.
        events: the number of events that were fanned out.
        done: the number of deliveries that were done.
        failed: the number of attempts that raised.
        dead: the number of these attempts after which the delivery was dead.
        seconds: the total run time of handlers.
        lags: the number of done deliveries within each bound of `WAIT_BOUNDS`, and beyond the last.
        few_lags: the seconds of each done delivery, if these are few; fewer if some are unknown.
    """

    start: datetime
    length: timedelta = _MINUTE
    events: int = 0
    done: int = 0
    failed: int = 0
    dead: int = 0
    seconds: float = 0.0
    lags: Sequence[int] = field(default_factory=lambda: [0] * len(_COLUMNS))
    few_lags: Sequence[float] = ()

    @property
    def mean_seconds(self) -> float | None:
        """The mean run time in seconds; None without a run."""
        runs = self.done + self.failed
        return self.seconds / runs if runs else None

    @property
    def error_share(self) -> float | None:
        """The share of runs that raised; None without a run."""
        runs = self.done + self.failed
        return self.failed / runs if runs else None

    def lag(self, share: float) -> float | None:
        """Return the seconds after emission within which this share was done; None without any.

        It is exact if each value is known: the nearest rank. Otherwise it is as exact as the
        histogram: values are interpolated within a column, and infinite beyond its last bound.
        """
        if self.few_lags and len(self.few_lags) == sum(self.lags):
            return sorted(self.few_lags)[max(0, ceil(share * len(self.few_lags)) - 1)]
        left, low = share * sum(self.lags), 0.0
        for number, bound in zip(self.lags, (*WAIT_BOUNDS, inf), strict=True):
            if number and left <= number:
                return low + (bound - low) * left / number
            left, low = left - number, bound
        return None


def note(handler: str, ended: Iterable[Ended]) -> None:
    """Count the results of a message's deliveries. Return at once, never raise."""
    tally = _counted([one for one in ended if not isinstance(one.error, LeaseLost)])
    if tally:
        minute = _floor(clock.now())
        times = [f"{_EXACT}{one.lag:.4f}" for one in ended if one.error is None]
        places = [(minute, ""), (minute, handler)]
        if places[1] not in _noted and len(_noted) >= _MOST_NOTED:
            _noted.clear()
        _noted.update({place: len(times) for place in places})
        few = tally + Counter(times)
        _buffer.add({place: few if _noted[place] <= _FEW else tally for place in places})


def note_events(number: int) -> None:
    """Count events that were fanned out. Return at once, never raise."""
    if number:
        _buffer.add({(_floor(clock.now()), ""): Counter(events=number)})


def flush() -> None:
    """Store the counts of this process now."""
    _buffer.write()


def series(*, end: datetime, length: timedelta, step: timedelta) -> list[Totals]:
    """Return the throughput of each step, oldest first. It reads one row a minute."""
    steps = round(length / step)
    first = _floor(end, step) - step * (steps - 1)
    found: list[list[dict[str, Any]]] = [[] for _ in range(steps)]
    rows = Minute.objects.filter(handler="", minute__gte=first, minute__lt=first + step * steps)
    for row in rows.values("minute", *_READ):
        found[int((row["minute"] - first) / step)].append(row)
    return [_totals(first + step * number, step, mine) for number, mine in enumerate(found)]


def recent(length: timedelta) -> Totals:
    """Return the recent throughput of all handlers."""
    now = clock.now()
    since = _floor(now - length)
    rows = Minute.objects.filter(handler="", minute__gte=since)
    return _totals(since, now - since, rows.values(*_READ))


def by_handler(handlers: Sequence[str], *, length: timedelta) -> dict[str, Totals]:
    """Return the recent throughput of each handler."""
    now = clock.now()
    since = _floor(now - length)
    rows = Minute.objects.filter(handler__in=handlers, minute__gte=since)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.values("handler", *_READ):
        found.setdefault(row["handler"], []).append(row)
    return {handler: _totals(since, now - since, found.get(handler, ())) for handler in handlers}


def mean_seconds(
    handlers: Collection[str], *, length: timedelta, using: str | None = None
) -> dict[str, float]:
    """Return the mean run time of each handler in seconds; a handler without a run is left out."""
    using = using or databases.alias()
    since = _floor(clock.now(using=using) - length)
    rows = Minute.objects.using(using).filter(handler__in=handlers, minute__gte=since)
    sums = rows.values("handler").annotate(runs=Sum(F("done") + F("failed")), total=Sum("seconds"))
    return {row["handler"]: row["total"] / row["runs"] for row in sums.order_by() if row["runs"]}


def series_by_handler(*, length: timedelta) -> dict[str, list[tuple[int, int]]]:
    """Return for each handler the done and the failed attempts of each minute, oldest first.

    A handler without a count in that time is left out.
    """
    steps = round(length / _MINUTE)
    first = _floor(clock.now()) - _MINUTE * (steps - 1)
    rows = Minute.objects.filter(minute__gte=first).exclude(handler="")
    found: dict[str, list[tuple[int, int]]] = {}
    for handler, minute, done, failed in rows.values_list("handler", "minute", "done", "failed"):
        step = int((minute - first) / _MINUTE)
        if step < steps:
            found.setdefault(handler, [(0, 0)] * steps)[step] = (done, failed)
    return found


def done_in_a_minute(handlers: Collection[str], *, using: str | None = None) -> dict[str, int]:
    """Return for each handler the number of deliveries done in the last sixty seconds.

    Of the previous minute only the share within the sixty seconds counts, assuming an even rate.
    """
    using = using or databases.alias()
    now = clock.now(using=using)
    this = _floor(now)
    shares = {this: 1.0, this - _MINUTE: 1 - (now - this) / _MINUTE}
    rows = Minute.objects.using(using).filter(handler__in=handlers, minute__in=shares)
    done = dict.fromkeys(handlers, 0.0)
    for minute, handler, number in rows.values_list("minute", "handler", "done"):
        done[handler] += shares[minute] * number
    return {handler: round(number) for handler, number in done.items()}


def rates(*, using: str | None = None) -> dict[str, float]:
    """Return the events a minute by name, over the last ten minutes.

    It reads at most the newest 5,000 rows. Under more traffic the rate is measured over the shorter
    time that these rows cover.
    """
    using = using or databases.alias()
    events = Event.objects.using(using)
    newest = events.filter(
        seq__gt=_before_newest(using=using), emitted_at__gte=clock.now(using=using) - _RATE_WINDOW
    )
    counts = dict(newest.order_by().values_list("name").annotate(Count("seq")))
    length = _RATE_WINDOW
    if sum(counts.values()) >= _MOST_RATE_ROWS / 2:
        oldest = newest.order_by("seq").values_list("emitted_at", flat=True).first()
        if oldest is not None:
            covered = clock.now(using=using) - oldest
            length = min(length, max(covered, timedelta(seconds=1)))
    return {name: count / (length / _MINUTE) for name, count in counts.items()}


def emitter_shares(*, using: str | None = None) -> dict[tuple[str, str], float]:
    """Return handlers with the events that they emit: the share of each pair in an event.

    It reads the newest 5,000 rows, however old they are: what causes what does not change at night.
    """
    using = using or databases.alias()
    events = Event.objects.using(using)
    newest = events.filter(seq__gt=_before_newest(using=using)).order_by()
    rows = list(newest.values_list("emitted_by", "name").annotate(Count("seq")))
    totals = Counter[str]()
    for _handler, name, number in rows:
        totals[name] += number
    return {(handler, name): count / totals[name] for handler, name, count in rows if handler}


def _before_newest(*, using: str) -> int:
    """Return a `seq` after which there are at most `_MOST_RATE_ROWS` events."""
    last = Event.objects.using(using).aggregate(last=Max("seq"))["last"] or 0
    return int(last) - _MOST_RATE_ROWS


def _totals(start: datetime, length: timedelta, rows: Iterable[Mapping[str, Any]]) -> Totals:
    sums: dict[str, Any] = dict.fromkeys(_READ, 0)
    few: list[float] = []
    for row in rows:
        few += row["few_lags"] or ()
        for name in _SUMMED:
            sums[name] += row[name]
    return Totals(
        start=start,
        length=length,
        seconds=float(sums["seconds"]),
        lags=[sums[name] for name in _COLUMNS],
        few_lags=few,
        **{name: sums[name] for name in _COUNTS},
    )


def _counted(ended: Sequence[Ended]) -> Counter[str]:
    """Return the counts of results, except lost leases: another attempt of the delivery counts."""
    done = [one for one in ended if one.error is None]
    failed = [one for one in ended if one.error is not None]
    tally = Counter(_COLUMNS[bisect_left(WAIT_BOUNDS, one.lag)] for one in done)
    tally["done"], tally["failed"] = len(done), len(failed)
    tally["dead"] = len([one for one in failed if one.state == Delivery.State.DEAD])
    seconds = sum(one.seconds for one in ended)
    tally["seconds"] = seconds  # type: ignore[assignment]  # it adds up any number
    return +tally  # without zeros


def _floor(moment: datetime, step: timedelta = _MINUTE) -> datetime:
    past = timedelta(seconds=moment.timestamp() % step.total_seconds())
    return (moment - past).replace(microsecond=0)


def _store(tallies: Mapping[Place, Counter[str]]) -> None:
    """Add the counts in the order of the rows, so that two processes never deadlock."""
    using = databases.alias()
    _prune(using=using)  # first: after an error the counts are stored again
    rows = Minute.objects.using(using)
    with transaction.atomic(using=using):
        for minute, handler in sorted(tallies):
            own = rows.filter(minute=minute, handler=handler)
            tally = tallies[minute, handler]
            added = {name: F(name) + number for name, number in tally.items() if name[0] != _EXACT}
            if not own.update(**added):
                new = Minute(minute=minute, handler=handler, few_lags=[])
                rows.bulk_create([new], ignore_conflicts=True)
                own.update(**added)
            _add_few(own, tally)


def _add_few(own: QuerySet[Minute], tally: Counter[str]) -> None:
    """Add the single times among the counts to their row, which an update has locked."""
    times = [
        float(name[1:])
        for name, number in tally.items()
        if name[0] == _EXACT
        for _ in range(number)
    ]
    if not times:
        return
    known = own.values_list("few_lags", flat=True).first()
    if known is not None:
        both = [*known, *times]
        own.update(few_lags=both if len(both) <= _FEW else None)


def _prune(*, using: str) -> None:
    now = clock.now(using=using)
    if now - _pruned_at.get(using, _NEVER) > _PRUNED_EVERY:
        _pruned_at[using] = now
        Minute.objects.using(using).filter(minute__lt=now - KEPT).delete()


#: Deliveries that this process has counted, by place; so a busy process keeps no single times.
_noted: Counter[Place] = Counter()
_MOST_NOTED = 2000
_pruned_at: dict[str, datetime] = {}
_buffer: Buffer[Place] = Buffer(_store)
