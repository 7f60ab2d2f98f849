"""The operation that records the removal of a day: by which ages, how far, and which run does it.

One run at a time removes a day. It writes its name into the operation, and each of its steps locks
the operation and compares the name. So a run that was taken for dead changes nothing any more. The
ages and the archive are those of the run that has closed the day, whichever run continues.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from outbox import clock
from outbox.deliveries.statements import bound_transaction
from outbox.models import Event, Operation
from outbox.partitions import closing
from outbox.partitions.past import Day

from .batches import pruning_transaction
from .staying import Horizons

logger = logging.getLogger("outbox.operations")

State = Operation.State

#: A run that has made no step for so long is taken for dead, and another one continues.
LEASE = timedelta(minutes=1)
#: A removal that no run has continued for so long is given up by a run with other ages.
STALE = timedelta(hours=1)

#: Keys of the operation's choice, beside those of `closing`.
DAY, BEFORE, ARCHIVE, RUN, STEP = "day", "before", "archive", "run", "step"
#: Ranges that have to be swept, since the time at which the day is ready to be emptied, and why the
#: removal was given up.
LEFT, READY_AT, WHY = "left", "ready_at", "why"

#: Steps, in their order.
BEGUN, EXAMINING, ARCHIVING, EMPTYING, SWEEPING = "begun", "examine", "archive", "empty", "sweep"

_IDLE_SECONDS = 10.0


class Postponed(Exception):
    """The removal of a day is continued by a later run, or was ended by a person."""


@dataclass(frozen=True)
class Policy:
    """The age limit of each event type, and the archive folder.

    Attributes:
        horizons: the time before which events are removed, by name. Other types stay.
        archive: the folder of the archive; "": there is none.
    """

    horizons: Horizons
    archive: str

    @classmethod
    def of(cls, choice: dict[str, Any]) -> Policy:
        """Return the policy by which a day was closed."""
        before = {name: datetime.fromisoformat(at) for name, at in choice[BEFORE].items()}
        return cls(before, choice[ARCHIVE])

    def as_choice(self) -> dict[str, object]:
        """Return it as a part of an operation's choice."""
        before = {name: at.isoformat() for name, at in self.horizons.items()}
        return {BEFORE: before, ARCHIVE: self.archive}

    def of_types(self, names: Collection[str]) -> Policy:
        """Return the policy of these types of events only.

        A later run has no horizon of a type whose last event was pruned meanwhile.
        """
        of_these = {name: at for name, at in self.horizons.items() if name in names}
        return Policy(of_these, self.archive)

    def covers(self, other: Policy, *, using: str) -> bool:
        """Return whether it removes all events that another one removes, and archives alike.

        A type of which no event is left needs no age.
        """
        return self.archive == other.archive and all(
            name in self.horizons and at <= self.horizons[name]
            for name, at in other.horizons.items()
            if name in self.horizons or _is_left(name, using=using)
        )


def _is_left(name: str, *, using: str) -> bool:
    return Event.objects.using(using).filter(name=name).exists()


class Record:
    """The operation of a removal, while one run carries it out.

    Args:
        operation: the operation.
        run: the name of the run, which no other one has.
        using: the outbox's database alias.
    """

    def __init__(self, operation: Operation, run: str, *, using: str) -> None:
        self.operation, self._run, self._using = operation, run, using

    @property
    def choice(self) -> dict[str, Any]:
        """The operation's choice."""
        choice: dict[str, Any] = self.operation.choice
        return choice

    @property
    def step(self) -> str:
        """The step that has begun."""
        return str(self.choice[STEP])

    @property
    def kept(self) -> list[int]:
        """The `seq` of the events that stay, ascending."""
        kept: list[int] = self.choice.get(closing.KEPT, [])
        return kept

    @contextmanager
    def changing(self) -> Iterator[Operation]:
        """Open a transaction that locks the operation, and stores the changes of the block.

        Raises:
            Postponed: another run carries it out, or it has ended.
        """
        with pruning_transaction(self._using):
            self.lock()
            yield self.operation
            self.save()

    def lock(self) -> None:
        """Lock the operation in the open transaction, and read it again.

        Raises:
            Postponed: another run carries it out, or it has ended.
        """
        rows = Operation.objects.using(self._using).select_for_update()
        row = rows.filter(pk=self.operation.pk, state=State.RUNNING).first()
        if row is None or row.choice[RUN] != self._run:
            raise Postponed
        for field in row._meta.concrete_fields:
            setattr(self.operation, field.attname, getattr(row, field.attname))

    def save(self) -> None:
        """Store the locked operation, as one whose run is alive."""
        self.operation.seen_at = clock.now(using=self._using)
        self.operation.save(using=self._using)

    def begin(self, step: str) -> None:
        """Begin a step with the first event of the day. The caller stores it."""
        self.operation.cursor = self.choice[closing.LOW] - 1
        self.choice[STEP] = step
        if step == EMPTYING:
            self.choice[READY_AT] = clock.now(using=self._using).isoformat()

    def is_held_up(self) -> bool:
        """Return whether the day has been ready for long, and could not be emptied."""
        ready_at = datetime.fromisoformat(self.choice[READY_AT])
        return clock.now(using=self._using) - ready_at > STALE

    def release(self) -> None:
        """Let the next run continue at once."""
        with suppress(Postponed), self.changing():
            self.choice[RUN] = ""

    def give_up(self, why: str) -> None:
        """End the removal. The day is open again, and its events are pruned row by row."""
        with suppress(Postponed), self.changing():
            self._give_up(why)

    def finish(self) -> None:
        """End the removal. The caller has locked the operation, and stores it."""
        self._end(State.FINISHED)

    def take(self, policy: Policy) -> bool:
        """Take the locked operation for this run; return whether it may carry it out.

        A run with other ages leaves it alone, or gives it up if nobody has continued it for long.
        """
        unseen = abs(clock.now(using=self._using) - self.operation.seen_at)  # it may be put back
        if self.choice[RUN] and unseen < LEASE:
            return False
        may = self.step == SWEEPING or policy.covers(Policy.of(self.choice), using=self._using)
        if may:
            self.choice[RUN] = self._run
            self.save()
        elif unseen > STALE:
            self._give_up(
                "no later run had a retention and an archive folder that allow it to continue"
            )
            self.save()
        return may

    def _give_up(self, why: str) -> None:
        self._end(State.GIVEN_UP)
        self.choice[WHY] = why
        text = "The day %s is not removed: %s. It is pruned row by row."
        logger.warning(text, self.choice[DAY], why)

    def _end(self, state: str) -> None:
        self.operation.state = state
        self.operation.finished_at = clock.now(using=self._using)


def continued(policy: Policy, run: str, *, using: str) -> Record | None:
    """Take the removal that an earlier run has left, if this run may continue it."""
    found = closing.removal(using=using)
    if found is None:
        return None
    with transaction.atomic(using=using):
        bound_transaction(_IDLE_SECONDS, using=using)
        # A locked one is being carried out.
        rows = Operation.objects.using(using).select_for_update(skip_locked=True)
        row = rows.filter(pk=found.pk, state=State.RUNNING).first()
        record = Record(row, run, using=using) if row is not None else None
        return record if record is not None and record.take(policy) else None


def stored(day: Day, policy: Policy, run: str, *, by: str, using: str) -> Record:
    """Store that a day is closed, in the caller's transaction."""
    now = clock.now(using=using)
    span = {DAY: day.label, closing.LOW: day.low, closing.HIGH: day.high}
    operation = Operation.objects.using(using).create(
        action=Operation.Action.PRUNE,
        choice={**span, **policy.as_choice(), RUN: run, STEP: BEGUN},
        by=by[:150],
        started_at=now,
        seen_at=now,
        cursor=day.low - 1,
        until=day.high,
    )
    return Record(operation, run, using=using)


def was_held_up(day: Day, *, within: timedelta, using: str) -> bool:
    """Return whether the removal of a day was given up lately, since others used its partitions."""
    ended = Operation.objects.using(using).filter(action=Operation.Action.PRUNE)
    lately = ended.filter(state=State.GIVEN_UP, finished_at__gt=clock.now(using=using) - within)
    return any(
        one.choice.get(closing.LOW) == day.low and one.choice.get(WHY) == HELD_UP for one in lately
    )


#: Reason of a removal that is given up since others use the partitions of its day.
HELD_UP = "other transactions have used it for too long"
