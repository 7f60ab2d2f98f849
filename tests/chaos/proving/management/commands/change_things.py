from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from django.core.management.base import BaseCommand
from django.db import Error, connection, transaction
from django.db.models import F

from outbox import emit
from tests.chaos.proving.events import Changed, Poisoned
from tests.chaos.proving.models import Thing

NAMESPACE = UUID("6f7c1bd5-7f0a-4b5c-9a3e-0d6a6a4b9f10")
THINGS = sorted(uuid5(NAMESPACE, str(number)) for number in range(4))
THREADS = 2
PAUSE = 0.8  # seconds


class Command(BaseCommand):
    """Emit events of some things, repeatedly, from several threads, until killed.

    A thing's row counts its events in their transaction. So the number of events is known, also
    if the answer to a commit was lost. Some transactions change two things.
    """

    def handle(self, **_options: Any) -> None:
        Thing.objects.bulk_create([Thing(id=id) for id in THINGS], ignore_conflicts=True)
        for number in range(1, THREADS):
            threading.Thread(target=self._change_for_ever, args=[number], daemon=True).start()
        self._change_for_ever(0)

    def _change_for_ever(self, number: int) -> None:
        rng = random.Random(number)
        while True:
            time.sleep(rng.uniform(0, 2 * PAUSE))
            try:
                self._change(rng)
            except Error:  # the database is away, or the answer to a commit is
                connection.close()

    def _change(self, rng: random.Random) -> None:
        with transaction.atomic():
            for thing_id in sorted(rng.sample(THINGS, rng.choice([1, 1, 2]))):
                # The update locks the row, so numbers and events of one thing are in one order.
                Thing.objects.filter(pk=thing_id).update(changes=F("changes") + 1)
                number = Thing.objects.get(pk=thing_id).changes
                emit(Changed(thing_id=thing_id, number=number))
        if _is_asked_for_poison():
            with transaction.atomic():
                emit(Poisoned(thing_id=rng.choice(THINGS)))


def _is_asked_for_poison() -> bool:
    try:
        (Path(os.environ["CHAOS_DIR"]) / "poison").unlink()
    except FileNotFoundError:
        return False
    return True
