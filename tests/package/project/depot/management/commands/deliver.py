"""Run a handler for one delivery, as a worker does, and stop before its start commits.

It writes the file `before_start.NAME`, and waits for the file `start.NAME`.
"""

from typing import Any

from depot.handlers import SIGNALS, wait_for
from django.core.management.base import BaseCommand, CommandParser

from outbox.deliveries import failpoints
from outbox.worker.delivery import deliver


class Command(BaseCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("handler")
        parser.add_argument("delivery", type=int)
        parser.add_argument("token", type=int)

    def handle(self, *_args: object, **options: Any) -> None:
        name = options["name"]

        def wait() -> None:
            (SIGNALS / f"before_start.{name}").touch()
            wait_for(f"start.{name}")

        failpoints.arm(failpoints.BEFORE_START, wait)
        deliver(
            handler_name=options["handler"],
            pairs=[(options["delivery"], options["token"])],
            worker=name,
        )
