"""The newest events, by `seq`, across the jump of the sequence at the start of a day."""

from __future__ import annotations

from django.db.models import Max

from outbox.models import Event

from .days import day_of, first_seq


def before_newest(number: int, *, using: str) -> int | None:
    """Return a `seq` after which there are so many events, or somewhat fewer; None without events.

    Without partitions it is the difference of numbers. Otherwise it reads the last event of each
    earlier day that it needs.
    """
    events = Event.objects.using(using)
    last: int | None = events.aggregate(latest=Max("seq"))["latest"]
    while last is not None and (day := day_of(last)) is not None:
        first = first_seq(day)
        if last - number >= first - 1:
            break
        earlier = events.filter(seq__lt=first).aggregate(latest=Max("seq"))["latest"]
        if earlier is None:
            return first - 1
        number -= last - first + 1
        last = earlier
    return None if last is None else last - number
