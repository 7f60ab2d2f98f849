"""The timeline of a key: its events and their effects, with deliveries and failed attempts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps

from outbox import clock, databases
from outbox.formatting import with_target
from outbox.settlements.status import SettlementStatus, statuses_of_deliveries

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from outbox.models import Attempt, Delivery, Event


#: Columns that link an event to its effects.
_LINK = ("seq", "id")

#: Default maximum of events in a timeline.
LONGEST = 1000
#: Links read per wanted event: of its effects, and of earlier events with effects.
_LINKS_FOR_EACH = 20
#: Maximum of explained deliveries of a timeline; each sentence costs a few queries.
_EXPLAINED = 50


@dataclass(frozen=True, kw_only=True)
class FailedAttempt:
    """A failed attempt."""

    number: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    exception: str
    message: str


@dataclass(frozen=True, kw_only=True)
class TimelineDelivery:
    """One delivery: started `attempts` times, sent `token` times.

    `why` explains a delivery that is not done, and is empty otherwise. Only fifty of a timeline
    have one: those in the most severe condition, for the longest time. `settlements` are those of a
    sink's consumers. `condition` is a value of `outbox.monitor.conditions.Condition`.
    """

    id: int
    handler: str
    target: str = ""
    state: str
    attempts: int
    token: int
    due_at: datetime
    started_at: datetime | None
    settled_at: datetime | None
    why: str
    condition: str = ""
    failures: Sequence[FailedAttempt] = ()
    settlements: Sequence[SettlementStatus] = ()

    @property
    def since(self) -> datetime:
        """End of its first failed attempt; without one, its due time."""
        ended = [one.ended_at for one in self.failures if one.outcome != "replayed"]
        return min(ended, default=self.due_at)

    @property
    def receiver(self) -> str:
        """The handler's name, with the target in brackets if there is one."""
        return with_target(self.handler, self.target)


@dataclass(frozen=True, kw_only=True)
class TimelineEvent:
    """One event of the chain. `depth` is the number of its causes within the timeline.

    `version` and `payload` are as stored, whatever this release would emit today.
    `fanned_out_at` is None while it waits for the relay. Until then it has no deliveries.
    """

    id: UUID
    seq: int
    name: str
    key: str
    emitted_at: datetime
    emitted_by: str
    actor: str
    causation_id: UUID | None
    correlation_id: UUID
    depth: int
    payload: dict[str, Any] = field(repr=False)
    version: int = 1
    fanned_out_at: datetime | None = None
    deliveries: Sequence[TimelineDelivery] = ()


def timeline_of(
    *,
    key: str,
    using: str | None = None,
    most: int = LONGEST,
    after: int | None = None,
    explained: bool = True,
) -> list[TimelineEvent]:
    """Return the events of `key` and their effects, in the order of `seq`.

    So they are in the order of their emission, and an event follows its cause. Each event has its
    deliveries and their failed attempts. An effect is an event that a handler of one of these
    events emitted, whatever its key. Other events of the same correlation id are left out. The cost
    depends on `most`, not on the number of stored events.

    Args:
        key: the aggregate's id as text.
        using: the outbox's database alias.
        most: maximum of events: the newest ones, or the first ones after `after`.
        after: a `seq`. For pages, pass the largest `seq` of the previous page.
        explained: explain deliveries that are not done; costs a few queries for each.
    """
    using = using or databases.alias()
    rows = _rows(using)
    own = _links(rows.filter(key=key), most=most, after=after)
    seqs = _with_effects(own, rows=rows, room=len(own) + most * _LINKS_FOR_EACH)
    if after is None:
        chosen = sorted(seqs)[-most:]
    else:
        chosen = sorted(seq for seq in seqs if seq > after)[:most]
    return _assemble(_loaded(chosen, using=using), explained=explained, using=using)


def timeline_of_correlation(
    *,
    correlation_id: UUID,
    using: str | None = None,
    most: int = LONGEST,
    explained: bool = True,
) -> list[TimelineEvent]:
    """Return the newest events of one correlation id in order, as `timeline_of` does."""
    using = using or databases.alias()
    rows = _rows(using).filter(correlation_id=correlation_id).order_by("-seq")
    seqs = list(rows.values_list("seq", flat=True)[:most])
    return _assemble(_loaded(seqs, using=using), explained=explained, using=using)


def _rows(using: str) -> QuerySet[Event]:
    return apps.get_model("outbox", "Event").objects.using(using)


def _links(own: QuerySet[Event], *, most: int, after: int | None) -> dict[UUID, int]:
    """Return the `seq` of the key's events by their ids.

    With `after` these are the next events, and earlier ones that may have later effects.
    """
    newest = own.order_by("-seq").values_list(*_LINK)
    if after is None:
        found = list(newest[:most])
    else:
        # Effects of earlier events may be later than `after`.
        found = list(newest.filter(seq__lte=after)[: most * _LINKS_FOR_EACH])
        found += own.filter(seq__gt=after).order_by("seq").values_list(*_LINK)[:most]
    return {id_: seq for seq, id_ in found}


def _with_effects(own: dict[UUID, int], *, rows: QuerySet[Event], room: int) -> Iterable[int]:
    """Return the `seq` of these events and of their effects, about `room` at most.

    Cost: one query for each step from cause to effect, by the index of `causation_id`.
    """
    found, causes = dict(own), list(own)
    while causes and len(found) < room:
        effects = rows.filter(causation_id__in=causes).values_list(*_LINK)[:room]
        new = {id_: seq for seq, id_ in effects if id_ not in found}
        found |= new
        causes = list(new)
    return found.values()


def _loaded(seqs: Iterable[int], *, using: str) -> list[Event]:
    return list(_rows(using).filter(seq__in=list(seqs)).order_by("seq"))


def _assemble(rows: Sequence[Event], *, using: str, explained: bool = True) -> list[TimelineEvent]:
    deliveries = _deliveries(rows, most_explained=_EXPLAINED if explained else 0, using=using)
    return [
        TimelineEvent(
            id=row.id,
            seq=row.seq,
            name=row.name,
            key=row.key,
            emitted_at=row.emitted_at,
            emitted_by=row.emitted_by,
            actor=row.actor,
            causation_id=row.causation_id,
            correlation_id=row.correlation_id,
            depth=depth,
            payload=row.payload,
            version=row.version,
            fanned_out_at=row.fanned_out_at,
            deliveries=deliveries.get(row.seq, ()),
        )
        for row, depth in zip(rows, _depths(rows), strict=True)
    ]


def _depths(rows: Sequence[Event]) -> Iterable[int]:
    """Yield the number of causes of each event within these, which are in the order of `seq`."""
    found: dict[UUID, int] = {}
    for row in rows:
        cause = found.get(row.causation_id) if row.causation_id else None
        found[row.id] = depth = 0 if cause is None else cause + 1
        yield depth


def _deliveries(
    rows: Sequence[Event], *, most_explained: int, using: str
) -> dict[int, list[TimelineDelivery]]:
    # These need the models, which this module must not load.
    from .conditions import condition_of
    from .diagnosis import why

    model = apps.get_model("outbox", "Delivery")
    found = (
        model.objects.using(using)
        .filter(event__in=rows)
        .select_related("subscription", "event")
        .prefetch_related("failures")
        .order_by("id")
    )
    published = [row.pk for row in found if row.subscription.consumers]
    settlements = statuses_of_deliveries(published, using=using)
    now = clock.now(using=using)
    made = [_delivery(row, settlements.get(row.pk, ()), condition_of(row, now)) for row in found]
    urgent = {one.id for one in _most_urgent(made)[:most_explained]}
    by_event: dict[int, list[TimelineDelivery]] = {}
    for row, one in zip(found, made, strict=True):
        shown = replace(one, why=why(row)) if one.id in urgent else one
        by_event.setdefault(row.event_id, []).append(shown)
    return by_event


def _most_urgent(deliveries: Iterable[TimelineDelivery]) -> list[TimelineDelivery]:
    """Return those that are not done: the most severe condition first, then the oldest trouble."""
    from .conditions import Condition  # it needs the models

    severity = [one.value for one in Condition]
    owed = [one for one in deliveries if one.state != "done"]
    return sorted(owed, key=lambda one: (severity.index(one.condition), one.since, one.id))


def _delivery(
    row: Delivery, settlements: Sequence[SettlementStatus], condition: str
) -> TimelineDelivery:
    return TimelineDelivery(
        id=row.id,
        handler=row.subscription.handler,
        target=row.target,
        state=row.state,
        attempts=row.attempts,
        token=row.token,
        due_at=row.due_at,
        started_at=row.started_at,
        settled_at=row.settled_at,
        why="",
        condition=str(condition),
        failures=[_failure(failure) for failure in row.failures.all()],
        settlements=settlements,
    )


def _failure(row: Attempt) -> FailedAttempt:
    return FailedAttempt(
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        exception=row.exception,
        message=row.message,
    )
