"""Conditions: one word for the progress of a delivery, or of all deliveries of a key.

The queries read owed deliveries and the events of the asked keys, never the whole history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet, Subquery, TextChoices
from django.utils.translation import gettext_lazy as _

from outbox import clock, databases
from outbox.models import Attempt, Delivery, Event, Subscription

State = Delivery.State

#: A delivery that is due for longer, and an event that waits longer for the relay, is overdue.
OVERDUE_AFTER = timedelta(minutes=1)
#: Maximum of keys that `keys_in` returns.
MOST_KEYS = 10_000
#: Owed deliveries that are read for these keys: several of one key are common.
_MOST_ROWS = 2 * MOST_KEYS


class Condition(TextChoices):
    """The progress of a delivery or a key; the most severe one first."""

    DEAD = "dead", _("dead")
    FAILING = "failing", _("failing")
    HELD = "held", _("held")
    OVERDUE = "overdue", _("overdue")
    IN_PROGRESS = "in_progress", _("in progress")
    COMPLETE = "complete", _("complete")


#: Conditions that need the attention of staff.
TROUBLED = (Condition.DEAD, Condition.FAILING, Condition.HELD, Condition.OVERDUE)
_SEVERITY = tuple(Condition)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The columns that decide the condition of a delivery.

    Attributes:
        state: its state.
        due_at: its due time; of a sent one, the end of its lease.
        is_stopped: its handler starts no deliveries: paused, unknown, ended, or breaker open.
        last_outcome: outcome of its latest recorded attempt; "" without one.
    """

    state: str
    due_at: datetime
    is_stopped: bool
    last_outcome: str = ""

    def condition(self, now: datetime) -> Condition:
        """Return the condition at a time."""
        if self.state in Delivery.SETTLED:
            return Condition.COMPLETE
        if self.state == State.DEAD:
            return Condition.DEAD
        if self.state == State.PARKED:
            return Condition.HELD if self.is_stopped else Condition.IN_PROGRESS
        if self.last_outcome and self.last_outcome not in Attempt.PUBLISHED_BEFORE:
            return Condition.FAILING
        if self.is_stopped and self.state == State.PENDING:
            return Condition.HELD
        is_late = self.state != State.BLOCKED and now - self.due_at > OVERDUE_AFTER
        return Condition.OVERDUE if is_late else Condition.IN_PROGRESS


def worst(conditions: Iterable[Condition]) -> Condition | None:
    """Return the most severe condition; None for none."""
    return min(conditions, key=_SEVERITY.index, default=None)


def condition_of(delivery: Delivery, now: datetime) -> Condition:
    """Return the condition of a delivery.

    Fetch it with `select_related("subscription")` and `prefetch_related("failures")`.
    """
    last = max(delivery.failures.all(), key=lambda attempt: attempt.pk, default=None)
    facts = Facts(
        state=delivery.state,
        due_at=delivery.due_at,
        is_stopped=is_stopped(delivery.subscription),
        last_outcome=last.outcome if last else "",
    )
    return facts.condition(now)


def is_stopped(row: Subscription) -> bool:
    """Return whether the handler starts no deliveries of a subscription but probes."""
    return row.is_held or not row.active or row.breaker_opened_at is not None


def conditions_of_keys(keys: Collection[str], *, using: str | None = None) -> dict[str, Condition]:
    """Return the most severe condition of the events of each key; keys without events are absent.

    Cost: two queries, which read the events of these keys and their deliveries.
    """
    using = using or databases.alias()
    now, events = clock.now(using=using), Event.objects.using(using).filter(key__in=keys)
    waiting = events.values_list("key").annotate(
        oldest=Min("emitted_at", filter=Q(fanned_out_at=None))
    )
    found = {key: [_of_waiting(oldest, now)] for key, oldest in waiting.order_by()}
    owed = _with_facts(Delivery.objects.using(using).filter(event__key__in=keys))
    for key, facts in _facts(owed.filter(state__in=Delivery.OWED)):
        found.setdefault(key, []).append(facts.condition(now))
    return {key: one for key, all_ in found.items() if (one := worst(all_))}


@dataclass(frozen=True)
class KeysFound:
    """The keys in a condition.

    Attributes:
        keys: at most `MOST_KEYS` of them.
        is_cut: there may be others: not all owed deliveries were read, or there are too many keys.
    """

    keys: list[str]
    is_cut: bool


def keys_in(condition: Condition, *, using: str | None = None) -> KeysFound:
    """Return the keys with a delivery in a condition of `TROUBLED`, at most `MOST_KEYS`.

    Cost: one to three queries. Each reads an index of owed deliveries, and at most 20,000 of them.
    """
    using = using or databases.alias()
    now, is_cut = clock.now(using=using), False
    found: dict[str, None] = {}
    for rows in _candidates(condition, now, using=using):
        read = list(_facts(_with_facts(rows)[:_MOST_ROWS]))
        is_cut = is_cut or len(read) == _MOST_ROWS
        found |= {key: None for key, facts in read if facts.condition(now) == condition}
    if condition == Condition.OVERDUE:
        late = Event.objects.using(using).filter(
            fanned_out_at=None, emitted_at__lt=now - OVERDUE_AFTER
        )
        keys = list(late.values_list("key", flat=True)[:_MOST_ROWS])
        is_cut = is_cut or len(keys) == _MOST_ROWS
        found |= dict.fromkeys(keys)
    return KeysFound(list(islice(found, MOST_KEYS)), is_cut or len(found) > MOST_KEYS)


def _of_waiting(oldest: datetime | None, now: datetime) -> Condition:
    if oldest is None:
        return Condition.COMPLETE
    return Condition.OVERDUE if now - oldest > OVERDUE_AFTER else Condition.IN_PROGRESS


def _candidates(
    condition: Condition, now: datetime, *, using: str
) -> list[QuerySet[Delivery, Delivery]]:
    """Return querysets that contain all deliveries in a condition; one for each index."""
    rows = Delivery.objects.using(using)
    pending, sent = rows.filter(state=State.PENDING), rows.filter(state=State.SENT)
    attempted = Exists(Attempt.objects.using(using).filter(delivery=OuterRef("pk")))
    late = Q(due_at__lt=now - OVERDUE_AFTER)
    by_condition = {
        Condition.DEAD: [rows.filter(state=State.DEAD).order_by("-pk")],
        Condition.FAILING: [
            pending.filter(started_token__gt=0),
            sent.filter(token__gt=1).filter(attempted),
            rows.filter(state=State.BLOCKED, started_token__gt=0),
        ],
        Condition.HELD: [
            rows.filter(state=State.PARKED),
            pending.filter(subscription__in=_stopped(using=using)),
        ],
        Condition.OVERDUE: [
            pending.filter(late).exclude(subscription__in=_stopped(using=using)),
            sent.filter(late),
        ],
    }
    return by_condition[condition]


def _stopped(*, using: str) -> list[int]:
    rows = Subscription.objects.using(using)
    return [row.pk for row in rows if is_stopped(row)]


def _with_facts(rows: QuerySet[Delivery, Delivery]) -> QuerySet[Delivery, Delivery]:
    latest = Attempt.objects.using(rows.db).filter(delivery=OuterRef("pk")).order_by("-id")
    related = rows.select_related("subscription").annotate(
        about=F("event__key"), last_outcome=Subquery(latest.values("outcome")[:1])
    )
    stops = ("active", "known", "paused_at", "breaker_opened_at")
    return related.only("state", "due_at", *(f"subscription__{name}" for name in stops))


def _facts(rows: Iterable[Delivery]) -> Iterable[tuple[str, Facts]]:
    for row in rows:
        yield (
            row.about,  # type: ignore[attr-defined]  # an annotation
            Facts(
                state=row.state,
                due_at=row.due_at,
                is_stopped=is_stopped(row.subscription),
                last_outcome=row.last_outcome or "",  # type: ignore[attr-defined]  # as above
            ),
        )
