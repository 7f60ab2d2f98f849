from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, connection, transaction
from django.db.models import F

from outbox import emit
from tests.chaos.edges.harbour.events import ShipOverloaded, ShipSailed
from tests.chaos.edges.harbour.models import Ship
from tests.chaos.edges.names import SHIPS, TOO_LARGE

#: Transactions at once, so that a call of a sink has several messages.
BURSTS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 8)


class Command(BaseCommand):
    """Emit events of some ships, repeatedly, until killed.

    A ship's row counts in the event's transaction, so the number of its events is known
    afterwards, also if the answer to a commit was lost.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rate", type=float, default=3.0, help="transactions a second")

    def handle(self, *, rate: float, **_options: Any) -> None:
        Ship.objects.bulk_create([Ship(name=name) for name in SHIPS], ignore_conflicts=True)
        rng = random.Random(os.getpid())
        while True:
            time.sleep(rng.uniform(0, 2 / rate))
            for _ in range(rng.choice(BURSTS)):
                try:
                    _sail(rng)
                except Error:  # the database is away, or the answer to a commit is
                    connection.close()


def _sail(rng: random.Random) -> None:
    with transaction.atomic():
        for name in sorted(rng.sample(SHIPS, rng.choice([1, 1, 2]))):
            # The update locks the row, so numbers and events of one ship are in one order.
            Ship.objects.filter(pk=name).update(sailed=F("sailed") + 1)
            emit(ShipSailed(ship=name, number=Ship.objects.get(pk=name).sailed))
    if _is_poison_wanted():
        # A key of its own: a dead event holds the later ones of its key.
        with transaction.atomic():
            emit(ShipOverloaded(ship=f"wreck-{uuid4().hex}", ballast="x" * TOO_LARGE))


def _is_poison_wanted() -> bool:
    try:
        (Path(os.environ["CHAOS_DIR"]) / "poison").unlink()
    except FileNotFoundError:
        return False
    return True
