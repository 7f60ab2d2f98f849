"""Choose the deliveries that the groups of failing ones are made of: a fair sample of many."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.db.models import Exists, F, OuterRef, QuerySet, Subquery, Window
from django.db.models.functions import RowNumber

from outbox.models import Attempt, Delivery, Subscription

from .bounded import number_of

State = Delivery.State

#: Most deliveries of one subscription that are grouped, and of all. At least so many of each.
_MOST_OF_ONE, _MOST, _LEAST = 200, 2000, 10
#: Times between the first and the last due time at which a part of a sample begins.
_BETWEEN = 8
#: The order of the index of failing deliveries. That of all pending ones has no attempts, so SQLite
#: does not choose it, which would read a whole backlog.
_ORDER = ("due_at", "attempts")
_BACKWARDS = tuple(f"-{one}" for one in _ORDER)
#: Most parts of one UNION; SQLite allows 500.
_PARTS = 200


@dataclass(frozen=True)
class Sample:
    """The ids of the deliveries to group.

    Attributes:
        pks: the ids.
        cut: subscriptions with further deliveries that may be failing.
    """

    pks: list[int]
    cut: set[int]


def sample(names: Collection[int], *, using: str) -> Sample:
    """Choose the deliveries to group.

    Args:
        names: ids of subscriptions.
        using: the outbox's database alias.
    """
    found = [_of_waiting(names, using=using), _of_running(names, using=using)]
    pks = [pk for one in found for pk in one.pks]
    return Sample(pks, {pk for one in found for pk in one.cut})


def waiting(*, using: str) -> QuerySet[Delivery]:
    """Return the deliveries that were started before and are due again; they have an index."""
    return Delivery.objects.using(using).filter(state=State.PENDING, started_token__gt=0)


def _share(number: int) -> int:
    """Return the most deliveries to group of each of so many subscriptions."""
    return max(_LEAST, min(_MOST_OF_ONE, _MOST // max(1, number)))


def _of_waiting(names: Collection[int], *, using: str) -> Sample:
    """Return the waiting deliveries; of a long list a sample over its due times."""
    every = waiting(using=using)
    rows = Subscription.objects.using(using).filter(active=True)
    counted = rows.annotate(number=number_of(every.order_by(*_ORDER), most=_MOST_OF_ONE + 1))
    numbers = {pk: number for pk, number in counted.values_list("pk", "number") if number}
    numbers = {pk: number for pk, number in numbers.items() if pk in names}
    most = _share(len(numbers))
    small = [pk for pk, number in numbers.items() if number <= most]
    large = [pk for pk, number in numbers.items() if number > most]
    found = list(every.filter(subscription__in=small).values_list("pk", flat=True))
    parts = list(_parts(large, most, using=using)) if large else []
    for start in range(0, len(parts), _PARTS):
        ids = [one.values_list("pk", flat=True) for one in parts[start : start + _PARTS]]
        found += ids[0].union(*ids[1:])
    return Sample(found, set(large))


def _parts(large: Collection[int], most: int, *, using: str) -> Iterator[QuerySet[Delivery]]:
    """Yield the parts of a sample: both ends of the due times, and parts that begin between them.

    Two groups of one subscription often differ in their due times: they began to fail one after the
    other. So a group in the middle is missed by both ends.
    """
    every, size = waiting(using=using), max(1, most // (_BETWEEN + 2))
    mine = every.filter(subscription=OuterRef("pk"))
    ends = Subscription.objects.using(using).filter(pk__in=large)
    ends = ends.annotate(
        first=Subquery(mine.order_by(*_ORDER).values("due_at")[:1]),
        last=Subquery(mine.order_by(*_BACKWARDS).values("due_at")[:1]),
    )
    for pk, first, last in ends.values_list("pk", "first", "last"):
        if first is None:  # done meanwhile
            continue
        rows, length = every.filter(subscription=pk), (last - first) / (_BETWEEN + 1)
        points = [first + length * number for number in range(_BETWEEN + 1)]
        chosen = [rows.order_by(*_BACKWARDS)[:size]]
        chosen += [rows.filter(due_at__gte=one).order_by(*_ORDER)[:size] for one in points]
        for one in chosen:
            # A slice within a subquery: SQLite accepts none directly in a UNION.
            yield Delivery.objects.using(using).filter(pk__in=one.values("pk")).order_by()


def _of_running(names: Collection[int], *, using: str) -> Sample:
    """Return the running deliveries with an earlier attempt. Their number is limited by windows."""
    most = _share(len(names))
    attempted = Exists(Attempt.objects.using(using).filter(delivery=OuterRef("pk")))
    running = Delivery.objects.using(using).filter(attempted, state=State.SENT, token__gt=1)
    rank = Window(RowNumber(), partition_by=F("subscription"), order_by=F("due_at").asc())
    rows = running.annotate(rank=rank).filter(rank__lte=most + 1)
    found = [row for row in rows.values_list("pk", "subscription", "rank") if row[1] in names]
    pks = [pk for pk, _subscription, rank in found if rank <= most]
    return Sample(pks, {subscription for _pk, subscription, rank in found if rank > most})
