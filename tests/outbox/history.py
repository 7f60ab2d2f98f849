"""A long history of events and deliveries, stored quickly by set-based statements.

Nearly all deliveries are done. Discarded deliveries and events with a rare name are the oldest, so
that a scan from the newest row on finds them last. No event is newer than twenty minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from outbox.models import Attempt, Delivery, Event, Settlement, Subscription

#: Number of consecutive events of one key.
EVENTS_PER_KEY = 8
#: Number of events that wait for the relay.
WAITING = 20
#: The consumer that settles the deliveries of all handlers but the rare one, and of that one.
CONSUMER, RARE_CONSUMER = "billing", "archive"

_NUMBERS = """
WITH RECURSIVE numbers(n) AS (
    SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %(events)s
)
"""

_EVENTS = (
    _NUMBERS
    + """
INSERT INTO outbox_event (id, name, version, key, payload, emitted_at, correlation_id,
                          emitted_by, actor, traceparent, fanned_out_at)
SELECT {uuid}, CASE WHEN n <= 4 THEN %(rare)s {names} END, 1, 'k' || (n / %(a_key)s),
       '{{"note": "as long as an event of an order is, more or less; nobody reads it"}}',
       {emitted}, {correlation}, '', '', '', {emitted}
FROM numbers
"""
)

_DELIVERIES = """
INSERT INTO outbox_delivery (event_id, subscription_id, state, due_at, token, started_token,
                             attempts, worker, note, started_at, settled_at)
SELECT event.seq, subscription.id, 'done', event.emitted_at, 1, 1, 1, 'worker', '',
       event.emitted_at, event.emitted_at
FROM outbox_event event JOIN outbox_subscription subscription ON subscription.event = event.name
WHERE event.fanned_out_at IS NOT NULL
ORDER BY event.seq
"""

_SETTLEMENTS = """
INSERT INTO outbox_settlement (delivery_id, event, consumer, state, due_at, seconds, most_replays,
                               replays, settled_at)
SELECT delivery.id, event.id, subscription.consumers, 'settled', event.emitted_at, 300, 3, 0,
       event.emitted_at
FROM outbox_delivery delivery
JOIN outbox_event event ON event.seq = delivery.event_id
JOIN outbox_subscription subscription ON subscription.id = delivery.subscription_id
ORDER BY delivery.id
"""

_DIALECT = {
    "postgresql": {
        "uuid": "gen_random_uuid()",
        "emitted": "CAST(%(oldest)s AS timestamptz) + n * CAST(%(step)s AS interval)",
        "correlation": "CAST(md5((n / %(a_key)s)::text) AS uuid)",
    },
    "sqlite": {
        "uuid": "lower(hex(randomblob(16)))",
        "emitted": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', %(oldest)s, "
        "(n * %(step_seconds)s) || ' seconds')",
        "correlation": "printf('%%032x', n / %(a_key)s)",
    },
}


@dataclass(frozen=True)
class History:
    """Search values of the stored history.

    Attributes:
        events: number of events.
        middle: `seq` of an event in the middle.
        key: key of the event in the middle.
        correlation: correlation id of the event in the middle.
        rare: name of the rare events.
        rare_handler: the only handler of the rare events.
    """

    events: int
    middle: int
    key: str
    correlation: str
    rare: str
    rare_handler: str


def store(events: int, *, names: Sequence[str], rare: str) -> History:
    """Store this number of events with these names, each with a delivery per subscription."""
    step = timedelta(days=30) / events
    until = timezone.now() - timedelta(minutes=20)
    facts: dict[str, str | int | float] = {
        "events": events,
        "a_key": EVENTS_PER_KEY,
        "rare": rare,
        "oldest": (until - timedelta(days=30)).strftime("%Y-%m-%d %H:%M:%S"),
        "step": f"{step.total_seconds()} seconds",
        "step_seconds": step.total_seconds(),
        **{f"name_{number}": name for number, name in enumerate(names)},
    }
    chosen = " ".join(
        f"WHEN n %% {len(names)} = {number} THEN %(name_{number})s" for number in range(len(names))
    )
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS.format(names=chosen, **_DIALECT[connection.vendor]), facts)
        _leave_newest_waiting()
        cursor.execute(_DELIVERIES)
    _mark_owed_and_discarded()
    _expect_settlements(rare)
    _update_statistics()
    return known(rare)


def _leave_newest_waiting() -> None:
    newest = list(Event.objects.order_by("-seq").values_list("seq", flat=True)[:WAITING])
    Event.objects.filter(seq__in=newest).update(fanned_out_at=None)


def _mark_owed_and_discarded() -> None:
    """Mark some deliveries, across the whole history, as owed, and the oldest as discarded."""
    ids = list(Delivery.objects.order_by("id").values_list("id", flat=True)[:10])
    Delivery.objects.filter(id__in=ids[4:]).update(state="discarded", note="not needed any more")
    newest = Delivery.objects.latest("id").id
    now = timezone.now()
    spread = {
        state: range(ids[-1] + 1 + number, newest, max(1, newest // 100))
        for number, state in enumerate(("pending", "dead", "parked", "sent", "blocked"))
    }
    for state, some in spread.items():
        due = now + timedelta(minutes=5)
        changes = {"state": state, "settled_at": None, "due_at": due, "note": "ValueError: no"}
        Delivery.objects.filter(id__in=list(some)).update(**changes)
    Delivery.objects.filter(state="blocked").update(order_key="k7")
    Attempt.objects.bulk_create(
        Attempt(
            delivery=delivery, number=1, started_at=now, ended_at=now, exception="ValueError",
            outcome="failed", place=f"kept.py:{delivery.pk % 20}",
        )
        for delivery in Delivery.objects.filter(state="dead")
    )  # fmt: skip


def _expect_settlements(rare: str) -> None:
    """Give each delivery a settlement. Some are open or missing, and the rare ones the oldest."""
    Subscription.objects.exclude(event=rare).update(consumers=CONSUMER)
    Subscription.objects.filter(event=rare).update(consumers=RARE_CONSUMER)
    with connection.cursor() as cursor:
        cursor.execute(_SETTLEMENTS)
    now, newest = timezone.now(), Settlement.objects.latest("id").id
    spread = {"open": range(10, newest, max(1, newest // 50)), "missing": range(11, newest, 200)}
    for state, some in spread.items():
        rows = Settlement.objects.filter(id__in=list(some))
        rows.update(state=state, settled_at=None, due_at=now + timedelta(minutes=5))
    late = Settlement.objects.filter(id__in=list(spread["open"])[::2])
    late.update(due_at=now - timedelta(minutes=5))


def _update_statistics() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def known(rare: str) -> History:
    """Return search values of the stored history."""
    first, last = Event.objects.earliest("seq").seq, Event.objects.latest("seq").seq
    middle = Event.objects.get(seq=(first + last) // 2)
    return History(
        events=last - first + 1,
        middle=middle.seq,
        key=middle.key,
        correlation=str(middle.correlation_id),
        rare=rare,
        rare_handler=Subscription.objects.get(event=rare).handler,
    )
