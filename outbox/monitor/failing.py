"""Failing handlers: groups of deliveries whose latest attempt failed and that are tried again.

A group is failing from its first failed attempt. A delivery leaves its group when it is done,
discarded or dead. `groups` has dead deliveries; `failure_groups` returns both kinds.

Nothing is stored about a group. It exists as long as its deliveries and their attempts do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, OuterRef, Subquery
from django.db.models.functions import Coalesce

from outbox import clock, databases
from outbox.formatting import one_line
from outbox.models import Attempt, Delivery, Minute, Subscription

from .failures import DEAD, FAILING, FailureGroup
from .groups import Group, groups
from .sampling import sample, waiting

State = Delivery.State

_MESSAGE_LENGTH = 200


def failing_groups(
    *, handlers: Collection[str] | None = None, using: str | None = None
) -> list[FailureGroup]:
    """Return the groups of `failing_view`, the largest first; same arguments and cost."""
    return failing_view(handlers=handlers, using=using).groups


@dataclass(frozen=True)
class FailingView:
    """The failing deliveries, as far as they were examined.

    Attributes:
        groups: their groups, the largest first.
        unexamined: handlers of which only a sample was examined, by name. They may have further
            groups, also if `groups` has none of them.
    """

    groups: list[FailureGroup] = field(default_factory=list)
    unexamined: tuple[str, ...] = ()


def failing_view(
    *, handlers: Collection[str] | None = None, using: str | None = None
) -> FailingView:
    """Return the groups of failing deliveries, and the handlers that were examined in part.

    Cost: three queries without a failing delivery, otherwise up to nine. At most about 4,000
    deliveries are grouped, whatever the number of failing ones. Each subscription has a sample of
    its own, spread over the due times, so none hides another.

    Args:
        handlers: pinned names; None: all.
        using: the outbox's database alias.
    """
    using = using or databases.alias()
    rows = Subscription.objects.using(using).filter(active=True)
    if handlers is not None:
        rows = rows.filter(handler__in=handlers)
    return failing_view_of(dict(rows.values_list("pk", "handler")), using=using)


def failing_view_of(names: Mapping[int, str], *, using: str) -> FailingView:
    """Return the view of these subscriptions.

    Args:
        names: pinned names of the handlers by the ids of their subscriptions.
        using: the outbox's database alias.
    """
    examined = sample(names, using=using)
    cut = {names[pk] for pk in examined.cut}
    found = list(_failed(names, examined.pks, using=using))
    made = _grouped(found, cut=cut, now=clock.now(using=using)) if found else []
    groups_ = _with_successes(made, using=using) if made else []
    return FailingView(groups=groups_, unexamined=tuple(sorted(cut)))


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


def count_failing(found: FailingView, *, using: str | None = None) -> dict[str, int]:
    """Return the number of failing deliveries of each handler, for metrics.

    Those of a handler that was examined in part are counted by their index, which has no others.

    Args:
        found: the view.
        using: the outbox's database alias.
    """
    numbers: Counter[str] = Counter()
    for one in found.groups:
        numbers[one.handler] += one.number
    if cut := found.unexamined:
        mine = waiting(using=using or databases.alias()).filter(attempts__gt=0)
        rows = mine.filter(subscription__handler__in=cut, subscription__active=True)
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
    def cause(self) -> tuple[str, str, str, str]:
        exception, outcome = self.attempt["exception"], self.attempt["outcome"]
        # Without an exception, the outcome tells a dead worker from one that was found alive.
        return self.handler, exception, self.attempt["place"], "" if exception else outcome


def _failed(names: Mapping[int, str], pks: Collection[int], *, using: str) -> Iterator[_Failed]:
    """Yield the deliveries to group, those without a failed attempt left out."""
    rows = Delivery.objects.using(using).filter(pk__in=pks, subscription__in=names)
    rows = rows.annotate(latest=_attempt("-id"), first=_attempt("id"))
    columns = ("pk", "subscription", "state", "due_at", "event__key", "latest", "first")
    deliveries = [row for row in rows.values(*columns).order_by("pk") if row["first"]]
    wanted = {row[end] for row in deliveries for end in ("latest", "first")}
    attempts = _attempts(wanted, using=using)
    for row in deliveries:
        if (latest := attempts.get(row["latest"])) and row["first"] in attempts:
            row["since"] = attempts[row["first"]]["ended_at"]
            yield _Failed(row, latest, names[row["subscription"]])


def _attempt(order: str) -> Subquery:
    """Return the first or latest failed attempt since the delivery was last done."""
    mine = Attempt.objects.filter(delivery=OuterRef(OuterRef("pk")))
    done = mine.filter(outcome__in=Attempt.PUBLISHED_BEFORE).order_by("-id").values("pk")[:1]
    later = Attempt.objects.filter(delivery=OuterRef("pk"), pk__gt=Coalesce(Subquery(done), 0))
    return Subquery(later.order_by(order).values("pk")[:1])


def _attempts(pks: Collection[int], *, using: str) -> dict[int, dict[str, Any]]:
    rows = Attempt.objects.using(using).filter(pk__in=pks)
    columns = (
        "pk",
        "outcome",
        "exception",
        "place",
        "message",
        "ended_at",
        "worker",
        "release",
        "delivery_id",
    )
    return {row["pk"]: row for row in rows.order_by().values(*columns)}


def _grouped(
    found: Iterable[_Failed], *, cut: Collection[str], now: datetime
) -> list[FailureGroup]:
    by_cause: dict[tuple[str, str, str, str], list[_Failed]] = {}
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
        release=latest.attempt["release"],
        cause=exception or str(Attempt.Outcome(latest.attempt["outcome"]).label),
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
        release=attempt["release"] if attempt else "",
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
