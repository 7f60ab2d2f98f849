from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import UUID, uuid4

from django.core.management.base import BaseCommand
from django.db import transaction

from outbox import emit
from tests.chaos.ground.events import Queued, Struck


class Command(BaseCommand):
    """Emit events, each in a transaction of its own, and print their ids."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int)
        parser.add_argument("--how", default="")
        parser.add_argument("--queued", action="store_true", help="Queued, in one transaction")

    def handle(self, *, number: int, how: str, queued: bool, **_options: Any) -> None:
        if queued:
            with transaction.atomic():
                ids = [emit(Queued(thing_id=uuid4())) for _ in range(number)]
        else:
            ids = [self._strike(how) for _ in range(number)]
        self.stdout.write("\n".join(map(str, ids)))

    def _strike(self, how: str) -> UUID:
        with transaction.atomic():
            return emit(Struck(thing_id=uuid4(), how=how))
