"""What followed from an event: all events, deliveries and attempts around one key, causes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps

from outbox import databases

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from outbox.models import Attempt, Delivery, Event


#: What links an event to others: seq, id, causation id, correlation id.
_Link = tuple[int, UUID, UUID | None, UUID]
_LINKS = ("seq", "id", "causation_id", "correlation_id")

#: A request may have told of many keys: so many times what is wanted is looked through for it.
_BESIDE = 20
#: Each sentence costs a few reads: so many deliveries of a timeline are explained.
_EXPLAINED = 50


@dataclass(frozen=True, kw_only=True)
class FailedAttempt:
    """An attempt that came to no good."""

    number: int
    started_at: datetime
    ended_at: datetime
    outcome: str
    exception: str
    message: str


@dataclass(frozen=True, kw_only=True)
class TimelineDelivery:
    """One handler's part: started `attempts` times, sent `token` times.

    `why` is a sentence where the delivery is not done, else empty; only the first fifty of a
    timeline have one.
    """

    id: int
    handler: str
    state: str
    attempts: int
    token: int
    due_at: datetime
    started_at: datetime | None
    settled_at: datetime | None
    why: str
    failures: Sequence[FailedAttempt] = ()


@dataclass(frozen=True, kw_only=True)
class TimelineEvent:
    """One event of the chain. `depth` is the number of its causes within the timeline.

    `version` and `payload` are what was stored, whatever this release would tell today.
    `fanned_out_at` is None while it waits for the relay: until then it has no deliveries.
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
    *, key: str, using: str | None = None, most: int | None = None, explained: bool = True
) -> list[TimelineEvent]:
    """Return everything that followed from the events about `key`, in causal order.

    Events of the key and, through their correlation ids, all that came of them, each with its
    deliveries and their failed attempts. An event follows its cause; siblings stand in the order
    of `seq`. Events that share a request with another key's, but do not follow from this one's,
    are left out.

    Args:
        key: the aggregate's id as text.
        using: the outbox's database alias.
        most: the newest so many events alone, whatever is stored; None: all.
        explained: say of deliveries why they are not done, which takes some reads for each.
    """
    using = using or databases.alias()
    rows = _rows(using)
    own = list(rows.filter(key=key).order_by("-seq").values_list(*_LINKS)[:most])
    if not own:
        return []
    beside = rows.filter(correlation_id__in={one[3] for one in own}, seq__gte=own[-1][0])
    found = beside.exclude(key=key).order_by("seq").values_list(*_LINKS)
    seqs = _connected(own, list(found[: most and most * _BESIDE]))
    return _assemble(_loaded(seqs, most=most, using=using), explained=explained, using=using)


def timeline_of_correlation(
    *,
    correlation_id: UUID,
    using: str | None = None,
    most: int | None = None,
    explained: bool = True,
) -> list[TimelineEvent]:
    """Return all events of one correlation id in causal order, as `timeline_of` does."""
    using = using or databases.alias()
    rows = _rows(using).filter(correlation_id=correlation_id).order_by("-seq")
    seqs = list(rows.values_list("seq", flat=True)[:most])
    return _assemble(_loaded(seqs, most=most, using=using), explained=explained, using=using)


def _rows(using: str) -> QuerySet[Event]:
    return apps.get_model("outbox", "Event").objects.using(using)


def _connected(own: Sequence[_Link], others: Sequence[_Link]) -> list[int]:
    """Return the numbers of the key's own events and of those that descend from one."""
    ids = {link[1] for link in own}
    kept = [link[0] for link in own]
    for seq, id_, causation_id, _correlation_id in sorted([*own, *others]):
        if causation_id in ids and id_ not in ids:  # a cause precedes its effects
            kept.append(seq)
            ids.add(id_)
    return kept


def _loaded(seqs: Iterable[int], *, most: int | None, using: str) -> list[Event]:
    """Load events by their numbers, the newest if they are more than wanted."""
    newest = sorted(seqs, reverse=True)[:most]
    return list(_rows(using).filter(seq__in=newest).order_by("seq"))


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
        for row, depth in _causal_order(rows)
    ]


def _causal_order(rows: Sequence[Event]) -> Iterable[tuple[Event, int]]:
    ids = {row.id for row in rows}
    children: dict[UUID | None, list[Event]] = {}
    for row in rows:
        parent = row.causation_id if row.causation_id in ids else None
        children.setdefault(parent, []).append(row)
    stack = [(row, 0) for row in reversed(children.get(None, []))]
    while stack:
        row, depth = stack.pop()
        yield row, depth
        stack += [(child, depth + 1) for child in reversed(children.get(row.id, []))]


def _deliveries(
    rows: Sequence[Event], *, most_explained: int, using: str
) -> dict[int, list[TimelineDelivery]]:
    from .diagnosis import why  # needs the models, which this module must not load

    model = apps.get_model("outbox", "Delivery")
    found = (
        model.objects.using(using)
        .filter(event__in=rows)
        .select_related("subscription", "event")
        .prefetch_related("failures")
        .order_by("id")
    )
    by_event: dict[int, list[TimelineDelivery]] = {}
    explained = 0
    for row in found:
        is_asked = row.state != row.State.DONE and explained < most_explained
        explained += is_asked
        sentence = why(row) if is_asked else ""
        by_event.setdefault(row.event_id, []).append(_delivery(row, sentence))
    return by_event


def _delivery(row: Delivery, why: str) -> TimelineDelivery:
    return TimelineDelivery(
        id=row.id,
        handler=row.subscription.handler,
        state=row.state,
        attempts=row.attempts,
        token=row.token,
        due_at=row.due_at,
        started_at=row.started_at,
        settled_at=row.settled_at,
        why=why,
        failures=[_failure(failure) for failure in row.failures.all()],
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
