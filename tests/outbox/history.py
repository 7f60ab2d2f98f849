"""A long history in a moment: events and deliveries stored by the set, as many as one wants.

Nearly all is done. What is rare stands at the wrong end for whoever looks for it from the newest
on: what was discarded, and the events of a seldom name, are the oldest; nothing is newer than
twenty minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from outbox.models import Attempt, Delivery, Event, Subscription

#: Events about one key, one after the other.
A_KEY = 8
#: How many events wait for the relay.
WAITING = 20

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
    """What of it one may look for.

    Attributes:
        events: how many there are.
        middle: the number of an event in the middle.
        key: the key of that one.
        correlation: and its correlation id.
        rare: the name of the events that are seldom.
        rare_handler: who alone hears them.
    """

    events: int
    middle: int
    key: str
    correlation: str
    rare: str
    rare_handler: str


def store(events: int, *, names: Sequence[str], rare: str) -> History:
    """Store so many events of these names, each with a delivery for everyone who hears it."""
    step = timedelta(days=30) / events
    until = timezone.now() - timedelta(minutes=20)
    facts: dict[str, str | int | float] = {
        "events": events,
        "a_key": A_KEY,
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
        _leave_waiting()
        cursor.execute(_DELIVERIES)
    _owe()
    _tell_database()
    return known(rare)


def _leave_waiting() -> None:
    newest = list(Event.objects.order_by("-seq").values_list("seq", flat=True)[:WAITING])
    Event.objects.filter(seq__in=newest).update(fanned_out_at=None)


def _owe() -> None:
    """Let some deliveries be owed, all over the history, and the oldest be discarded."""
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


def _tell_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def known(rare: str) -> History:
    """Return what one may look for in the history that is stored."""
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
