"""The current rate of each event, from the newest rows only."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, Max

from outbox import clock, databases
from outbox.models import Event

#: The time over which rates are measured, and the most rows that are read.
WINDOW = timedelta(minutes=10)
_MOST_ROWS = 5000


def rates(*, using: str | None = None) -> dict[str, float]:
    """Return the events a minute by name, over the last ten minutes.

    It reads at most the newest 5,000 rows. Under more traffic the rate is measured over the shorter
    time that these rows cover.
    """
    using = using or databases.alias()
    events = Event.objects.using(using)
    latest = events.aggregate(latest=Max("seq"))["latest"]
    if latest is None:
        return {}
    newest = events.filter(
        seq__gt=latest - _MOST_ROWS, emitted_at__gte=clock.now(using=using) - WINDOW
    )
    counts = dict(newest.order_by().values_list("name").annotate(Count("seq")))
    minutes = WINDOW.total_seconds() / 60
    if sum(counts.values()) >= _MOST_ROWS / 2:
        oldest = newest.order_by("seq").values_list("emitted_at", flat=True).first()
        if oldest is not None:
            minutes = min(minutes, max((clock.now(using=using) - oldest).total_seconds(), 1) / 60)
    return {name: count / minutes for name, count in counts.items()}
