"""Run the demo: orders through its own stack, with faults or Kafka if requested, and a report."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Place 24 orders in a temporary stack, and print their timelines and a summary."
    requires_system_checks: list[str] = []  # the stack's `setup` runs them, with its own settings

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_mutually_exclusive_group()
        kinds.add_argument(
            "--break",
            action="store_true",
            help="kill the worker, wipe the broker and stop the relay during the run",
        )
        kinds.add_argument(
            "--world",
            action="store_true",
            help="place 8 orders that flow to a carrier by Kafka, receive its answers, and kill "
            "the carrier during the run",
        )
        parser.add_argument(
            "--keep",
            action="store_true",
            help="keep the folder of the demo (database, e-mails, log), and print its path",
        )

        parser.add_argument(
            "--watch",
            action="store_true",
            help="show the orders below the messages while they are processed; needs a terminal",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.FOR_REAL:
            sys.exit("`demo` is for development only. Unset ALLOWED_HOSTS and DEBUG.")
        flags = [f"--{name}" for name in ("break", "world", "keep", "watch") if options[name]]
        # Settings are read once, and the demo needs its own: its program replaces this process.
        os.chdir(settings.BASE_DIR)
        command = [sys.executable, "-m", "shop.demo.program", *flags]
        os.execv(sys.executable, command)  # noqa: S606  it is this interpreter, and our own code
