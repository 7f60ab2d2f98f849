"""Past days of partitioned tables, for tests of their removal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from outbox import operations
from outbox.deliveries.failpoints import armed
from outbox.models import Delivery, Event, Operation
from outbox.partitions.ahead import jump
from outbox.partitions.catalogue import EVENT, partitions
from outbox.partitions.days import PER_DAY, day_at, first_seq, partition_name
from outbox.retention.record import LEASE
from outbox.testing import Outbox
from tests.outbox.converted import rows
from tests.outbox.drive import Died, die

#: Marks of the tests of a module.
OF_DAYS = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("converted", "few_are_many"),
]
NAME = "parcels.ParcelSent"
AGE = timedelta(days=1)


def yesterday() -> date:
    return day_at(timezone.now()) - timedelta(days=1)


def low() -> int:
    return first_seq(yesterday())


@contextmanager
def in_the_past() -> Iterator[None]:
    """Store events in the partition of yesterday, two days before now, within the block."""
    inside = Event.objects.filter(seq__gte=low(), seq__lt=low() + PER_DAY)
    last = inside.order_by("-seq").values_list("seq", flat=True).first()
    set_sequence(low() if last is None else last + 1)
    known = list(inside.values_list("seq", flat=True))
    yield
    inside.exclude(seq__in=known).update(emitted_at=F("emitted_at") - timedelta(days=2))
    jump(day_at(timezone.now()), using="default")


def set_sequence(following: int) -> None:
    rows("SELECT setval('outbox_event_seq_seq', %s, false)", following)


def emit_in_the_past(number: int = 1, *, name: str = NAME, **fields: Any) -> list[Event]:
    """Store events of yesterday, each about a new parcel."""
    outbox = Outbox()
    with in_the_past():
        return [outbox.given(name, **{"parcel_id": uuid4(), **fields}) for _ in range(number)]


def handle() -> None:
    Outbox().deliver_all(raise_errors=False)


def settled(number: int = 3) -> list[Event]:
    """Store events of yesterday, and handle them."""
    events = emit_in_the_past(number)
    handle()
    return events


def put(event: Event, state: str) -> None:
    """Put the deliveries of an event into a state."""
    Delivery.objects.filter(event=event).update(state=state, settled_at=None)


def prune(**options: Any) -> int:
    return operations.prune(**{"older_than": AGE, "batch": 10, "by": "cli:ann", **options})


def stored() -> set[int]:
    return set(Event.objects.values_list("seq", flat=True))


def seqs(*events: Event) -> set[int]:
    return {event.seq for event in events}


def has_partition() -> bool:
    names = [one.name for one in partitions(EVENT, using="default")]
    return partition_name(EVENT, yesterday()) in names


def removal() -> Operation:
    return Operation.objects.get(choice__has_key="low")


def age(by: timedelta) -> None:
    """Let a removal be unseen for so long."""
    at = timezone.now() - by
    Operation.objects.filter(choice__has_key="low").update(started_at=at, seen_at=at)


def killed_at(point: str, **options: Any) -> None:
    """Prune until the point, where the process dies: its connection is closed."""
    with armed(point, die), pytest.raises(Died):
        prune(**{"batch": 1, **options})
    connection.close()


def killed_and_given_up_at(point: str, **options: Any) -> None:
    """Prune until the point, where the process dies, a minute ago. The next run continues."""
    killed_at(point, **options)
    age(LEASE)


@contextmanager
def once_at(point: str, action: Callable[[], object]) -> Iterator[list[object]]:
    """Run an action the first time that a point is reached; yield the list of its result."""
    results: list[object] = []

    def run() -> None:
        if not results:
            results.append(None)
            results[0] = action()

    with armed(point, run):
        yield results
    assert results, f"{point} was not reached"
