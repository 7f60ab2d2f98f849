"""Find the first event since a time, without an index of times and without a full scan."""

from __future__ import annotations

from datetime import datetime, timedelta

from outbox.models import Event

#: `emitted_at` is in the order of `seq` as far as the clocks of the emitting hosts agree.
_CLOCKS_AGREE = timedelta(minutes=5)
_NEAR_ENOUGH = 200


def first_since(time: datetime) -> int:
    """Return a `seq` before which no event was emitted since `time`; few after it are older.

    Cost: a binary search with about a dozen small queries for a million events.
    """
    sought = time - _CLOCKS_AGREE
    seqs = Event.objects.values_list("seq", flat=True)
    # Two queries: for both at once, SQLite scans all rows.
    low, high = seqs.order_by("seq").first() or 0, (seqs.order_by("-seq").first() or 0) + 1
    while high - low > _NEAR_ENOUGH:
        middle = (low + high) // 2
        if _is_since(sought, middle):
            high = middle
        else:
            low = middle
    return low


def _is_since(time: datetime, seq: int) -> bool:
    """Return whether the first event from `seq` on was emitted since `time`."""
    rows = Event.objects.filter(seq__gte=seq).order_by("seq")
    emitted_at = rows.values_list("emitted_at", flat=True).first()
    return emitted_at is None or emitted_at >= time
