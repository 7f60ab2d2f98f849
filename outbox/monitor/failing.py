"""Failing handlers: groups of deliveries whose latest attempt failed and that are tried again.

A group is failing from its first failed attempt. A delivery leaves its group when it is done,
discarded or dead. `groups` has dead deliveries; `failure_groups` returns both kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.formatting import one_line
from outbox.models import Attempt, Delivery, Minute, Subscription

from .failures import DEAD, FAILING, FailureGroup
from .groups import Group, groups

State = Delivery.State

#: Most deliveries of one subscription that are grouped, and of all.
_MOST_OF_ONE, _MOST = 200, 2000
#: Most parts of one UNION; SQLite allows 500.
_PARTS = 200
_MESSAGE_LENGTH = 200


def failing_groups(
    *, handlers: Collection[str] | None = None, using: str | None = None
) -> list[FailureGroup]:
    """Return the groups of failing deliveries, the largest first.

    Cost: four queries, and one for each 200 handlers with more than 200 failing deliveries. At
    most about 2,500 deliveries are grouped, whatever the number of failing ones: of each handler
    those that are due first and last. Counting the others reads an index that contains them alone.

    Args:
        handlers: pinned names; None: all.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    rows = Subscription.objects.using(using).filter(active=True)
    if handlers is not None:
        rows = rows.filter(handler__in=handlers)
    names = dict(rows.values_list("pk", "handler"))
    numbers = _numbers(names, using=using)
    found = list(_failed(names, numbers, using=using))
    if not found:
        return []
    made = _grouped(found, cut=_cut_handlers(names, numbers), now=clock.now(using=using))
    return _with_successes(made, using=using)


def dead_groups(*, using: str | None = None, most: int | None = 1000) -> list[FailureGroup]:
    """Return the groups of dead deliveries as `FailureGroup`, the largest first.

    Args:
        using: the outbox's database alias.
        most: group only this many of the newest dead deliveries; None: all.
    """
    using = using or databases.alias()
    found = groups(using=using, most=most)
    if not found:
        return []
    messages = _latest_attempts([one.example for one in found], using=using)
    now = clock.now(using=using)
    is_cut = most is not None and sum(one.number for one in found) >= most
    made = [_of_dead(one, messages.get(one.example), is_cut=is_cut, now=now) for one in found]
    return _with_successes(made, using=using)


def failure_groups(*, using: str | None = None, most: int | None = 1000) -> list[FailureGroup]:
    """Return failing groups, then dead ones. Arguments as for `dead_groups`."""
    return [*failing_groups(using=using), *dead_groups(using=using, most=most)]


def count_failing(found: Iterable[FailureGroup], *, using: str | None = None) -> dict[str, int]:
    """Return the number of failing deliveries of each handler in these groups, for metrics.

    Those of a handler with more deliveries than its groups have are counted by their index.

    Args:
        found: groups of `failing_groups`.
        using: the outbox's database alias.
    """
    numbers: Counter[str] = Counter()
    cut = set()
    for one in found:
        numbers[one.handler] += one.number
        cut |= {one.handler} if one.is_least else set()
    if cut:
        waiting = _waiting(using=using or databases.alias()).filter(attempts__gt=0)
        rows = waiting.filter(subscription__handler__in=cut, subscription__active=True)
        counted = rows.values_list("subscription__handler").annotate(number=Count("pk"))
        numbers |= Counter(dict(counted.order_by()))  # the larger number of each handler
    return dict(numbers)


@dataclass(frozen=True)
class _Failed:
    """A delivery and its latest failed attempt."""

    delivery: Mapping[str, Any]
    attempt: Mapping[str, Any]
    handler: str

    @property
    def cause(self) -> tuple[str, str, str]:
        return self.handler, self.attempt["exception"], self.attempt["place"]


@dataclass
class _Numbers:
    """The number of waiting deliveries by subscription."""

    by_pk: dict[int, int] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """The most deliveries to group of one subscription."""
        return max(10, min(_MOST_OF_ONE, _MOST // max(1, len(self.by_pk))))


def _waiting(*, using: str) -> QuerySet[Delivery]:
    """Return the deliveries that were started before and are due again; they have an index."""
    return Delivery.objects.using(using).filter(state=State.PENDING, started_token__gt=0)


def _numbers(names: Collection[int], *, using: str) -> _Numbers:
    rows = _waiting(using=using).values_list("subscription").annotate(number=Count("*")).order_by()
    return _Numbers({pk: number for pk, number in rows if pk in names})


def _cut_handlers(names: Mapping[int, str], numbers: _Numbers) -> set[str]:
    return {names[pk] for pk, number in numbers.by_pk.items() if number > numbers.most}


def _failed(names: Mapping[int, str], numbers: _Numbers, *, using: str) -> Iterator[_Failed]:
    """Yield the deliveries to group, those without a failed attempt left out."""
    chosen = _chosen(numbers, using=using)
    running = Delivery.objects.using(using).filter(state=State.SENT, token__gt=1)
    chosen += list(running.order_by("subscription", "due_at").values_list("pk", flat=True)[:500])
    rows = Delivery.objects.using(using).filter(pk__in=chosen, subscription__in=names)
    rows = rows.annotate(latest=_attempt("-id"), first=_attempt("id"))
    columns = ("pk", "subscription", "state", "due_at", "event__key", "latest", "first")
    deliveries = [row for row in rows.values(*columns).order_by("pk") if row["first"]]
    wanted = {row[end] for row in deliveries for end in ("latest", "first")}
    attempts = _attempts(wanted, using=using)
    for row in deliveries:
        if (latest := attempts.get(row["latest"])) and row["first"] in attempts:
            row["since"] = attempts[row["first"]]["ended_at"]
            yield _Failed(row, latest, names[row["subscription"]])


def _chosen(numbers: _Numbers, *, using: str) -> list[int]:
    """Return the ids of the waiting deliveries to group; those of a long list from both ends."""
    most, waiting = numbers.most, _waiting(using=using)
    small = [pk for pk, number in numbers.by_pk.items() if number <= most]
    large = [pk for pk, number in numbers.by_pk.items() if number > most]
    found = list(waiting.filter(subscription__in=small).values_list("pk", flat=True))
    for start in range(0, len(large), _PARTS // 2):
        ends = [
            # A slice within a subquery: SQLite accepts none directly in a UNION.
            Delivery.objects.using(using).filter(
                pk__in=waiting.filter(subscription=pk).order_by(end).values("pk")[: most // 2]
            )
            for pk in large[start : start + _PARTS // 2]
            for end in ("due_at", "-due_at")
        ]
        ids = [one.order_by().values_list("pk", flat=True) for one in ends]
        found += ids[0].union(*ids[1:], all=True)
    return found


def _attempt(order: str) -> Subquery:
    """Return the first or latest failed attempt since the delivery was last done."""
    mine = Attempt.objects.filter(delivery=OuterRef(OuterRef("pk")))
    done = mine.filter(outcome__in=Attempt.PUBLISHED_BEFORE).order_by("-id").values("pk")[:1]
    later = Attempt.objects.filter(delivery=OuterRef("pk"), pk__gt=Coalesce(Subquery(done), 0))
    return Subquery(later.order_by(order).values("pk")[:1])


def _attempts(pks: Collection[int], *, using: str) -> dict[int, dict[str, Any]]:
    rows = Attempt.objects.using(using).filter(pk__in=pks)
    columns = ("pk", "exception", "place", "message", "ended_at", "worker", "delivery_id")
    return {row["pk"]: row for row in rows.order_by().values(*columns)}


def _grouped(
    found: Iterable[_Failed], *, cut: Collection[str], now: datetime
) -> list[FailureGroup]:
    by_cause: dict[tuple[str, str, str], list[_Failed]] = {}
    for one in found:
        by_cause.setdefault(one.cause, []).append(one)
    made = [_group(mine, is_cut=mine[0].handler in cut, now=now) for mine in by_cause.values()]
    return sorted(made, key=lambda one: (-one.number, one.handler, one.cause, one.place))


def _group(mine: Sequence[_Failed], *, is_cut: bool, now: datetime) -> FailureGroup:
    latest = max(mine, key=lambda one: (one.attempt["ended_at"], one.attempt["pk"]))
    due = [one.delivery["due_at"] for one in mine if one.delivery["state"] == State.PENDING]
    exception = latest.attempt["exception"]
    return FailureGroup(
        kind=FAILING,
        handler=latest.handler,
        exception=exception,
        message=_message(latest.attempt),
        place=latest.attempt["place"],
        number=len(mine),
        is_least=is_cut,
        keys=len({one.delivery["event__key"] for one in mine}),
        since=min(one.delivery["since"] for one in mine),
        latest=latest.attempt["ended_at"],
        next_attempt=min(due, default=now),  # a running one
        example=latest.delivery["pk"],
        worker=latest.attempt["worker"],
        cause=exception or _("the worker died"),
        now=now,
    )


def _of_dead(
    one: Group, attempt: Mapping[str, Any] | None, *, is_cut: bool, now: datetime
) -> FailureGroup:
    return FailureGroup(
        kind=DEAD,
        handler=one.handler,
        exception=one.exception,
        message=_message(attempt) if attempt else "",
        place=one.place,
        number=one.number,
        is_least=is_cut,
        since=one.first,
        latest=one.last,
        example=one.example,
        worker=attempt["worker"] if attempt else "",
        cause=one.cause,
        now=now,
    )


def _message(attempt: Mapping[str, Any]) -> str:
    return one_line(attempt["message"])[:_MESSAGE_LENGTH]


def _latest_attempts(deliveries: Collection[int], *, using: str) -> dict[int, dict[str, Any]]:
    """Return the latest attempt of each delivery."""
    rows = Attempt.objects.using(using).filter(delivery__in=deliveries).order_by()
    latest = rows.values("delivery").annotate(latest=Max("pk")).values_list("latest", flat=True)
    found = _attempts(list(latest), using=using)
    return {row["delivery_id"]: row for row in found.values()}


def _with_successes(found: Sequence[FailureGroup], *, using: str) -> list[FailureGroup]:
    """Return the groups with the minute of their handler's last success."""
    handlers = {one.handler for one in found}
    rows = Minute.objects.using(using).filter(handler__in=handlers, done__gt=0)
    last = dict(rows.values_list("handler").annotate(last=Max("minute")).order_by())
    return [replace(one, last_success=last.get(one.handler)) for one in found]
