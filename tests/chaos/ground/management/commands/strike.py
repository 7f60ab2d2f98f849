from __future__ import annotations

import copy
from argparse import ArgumentParser
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models.base import ModelState

from outbox import emit
from outbox.models import Event
from tests.chaos.ground.events import Queued, Struck


class Command(BaseCommand):
    """Emit events, each in a transaction of its own, and print their ids."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int)
        parser.add_argument("--how", default="")
        parser.add_argument("--queued", action="store_true", help="Queued instead, all in one go")

    def handle(self, *, number: int, how: str, queued: bool, **_options: Any) -> None:
        if queued:
            self._queue(number)
        else:
            ids = [self._strike(how) for _ in range(number)]
            self.stdout.write("\n".join(map(str, ids)))

    def _queue(self, number: int) -> None:
        """Store what emit() would, many rows at a time."""
        with transaction.atomic():
            emit(Queued(thing_id=uuid4()))
            example = Event.objects.latest("seq")
            rows = []
            for _ in range(number - 1):
                row = copy.copy(example)
                row.seq, row.id, row._state = None, uuid4(), ModelState()
                rows.append(row)
            Event.objects.bulk_create(rows, batch_size=1000)

    def _strike(self, how: str) -> UUID:
        with transaction.atomic():
            return emit(Struck(thing_id=uuid4(), how=how))
