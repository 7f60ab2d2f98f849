from __future__ import annotations

import copy
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django.db.models.base import ModelState

from outbox import databases, emit
from outbox.models import Event
from tests.chaos.ground import events
from tests.chaos.ground.events import Counted, Queued, Struck

_EMITTERS = 4


class Command(BaseCommand):
    """Emit events, each in a transaction of its own, and print their ids."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int)
        parser.add_argument("--how", default="")
        parser.add_argument("--of", default="", choices=["Spared", "Lingered"], help="instead")
        parser.add_argument("--queued", action="store_true", help="Queued instead, all in one go")
        parser.add_argument("--keys", type=int, help="by four at once, and Counted of so many keys")

    def handle(
        self, *, number: int, how: str, queued: bool, of: str, keys: int | None, **_: Any
    ) -> None:
        if of:
            with transaction.atomic(using=databases.alias()):
                for _number in range(number):
                    emit(getattr(events, of)(thing_id=uuid4()))
        elif queued:
            self._queue(number)
        elif keys:
            self._strike_at_once(number, things=[uuid4() for _ in range(keys)])
        else:
            ids = [self._strike(how) for _ in range(number)]
            self.stdout.write("\n".join(map(str, ids)))

    def _queue(self, number: int) -> None:
        """Store the same rows as emit(), many at a time."""
        with transaction.atomic(using=databases.alias()):
            emit(Queued(thing_id=uuid4()))
            example = Event.objects.latest("seq")
            rows = []
            for _ in range(number - 1):
                row = copy.copy(example)
                row.seq, row.id, row._state = None, uuid4(), ModelState()
                rows.append(row)
            Event.objects.bulk_create(rows, batch_size=1000)

    def _strike(self, how: str) -> UUID:
        with transaction.atomic(using=databases.alias()):
            return emit(Struck(thing_id=uuid4(), how=how))

    def _strike_at_once(self, number: int, *, things: list[UUID]) -> None:
        """Each emitter has a connection of its own, and all of them meet at each key."""
        with ThreadPoolExecutor(max_workers=_EMITTERS) as emitters:
            list(emitters.map(_strike_and_count, islice(cycle(things), number)))


def _strike_and_count(thing: UUID) -> None:
    try:
        with transaction.atomic(using=databases.alias()):
            emit(Struck(thing_id=thing))
            emit(Counted(thing_id=thing))
    finally:
        connection.close()
