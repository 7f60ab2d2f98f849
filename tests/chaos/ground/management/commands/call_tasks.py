from __future__ import annotations

from argparse import ArgumentParser
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand
from django.db import transaction


class Command(BaseCommand):
    """Call a task in transactions of its own; print the ids of those that commit.

    Each fourth transaction is rolled back.
    """

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int)

    def handle(self, *, number: int, **_: Any) -> None:
        from tests.chaos.ground.tasks import record_call  # only here Celery is needed

        for position in range(number):
            one = str(uuid4())
            with transaction.atomic():
                record_call.apply_async((one,), task_id=one)
                is_undone = position % 4 == 3
                transaction.set_rollback(is_undone)
            if not is_undone:
                self.stdout.write(one)
