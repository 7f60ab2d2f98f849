"""Start the whole stack on this machine: broker, bank, database, web, relay, workers and beat."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from shop.up import stack
from shop.up.errors import UpError


class Command(BaseCommand):
    help = "Start the whole stack: broker, bank, database, web, relay, workers and beat."
    requires_system_checks: list[str] = []  # `setup` runs them, with the right settings

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--port", type=_port, default=8000, help="port of the web server; 0: a free port"
        )
        parser.add_argument(
            "--scale",
            type=_scale,
            action="append",
            default=[],
            metavar="APP=N",
            help="N additional worker processes for the handlers of APP; repeatable",
        )
        parser.add_argument(
            "--no-reload", action="store_true", help="do not restart programs after code changes"
        )
        parser.add_argument("--quiet", action="store_true", help="hide the output of the programs")
        parser.add_argument(
            "--data",
            type=Path,
            default=settings.LOCAL_DIR,
            help="folder for the database, e-mails and passwords; default .local",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            stack.run(
                stack.Options(
                    data=options["data"].resolve(),
                    port=options["port"],
                    scale=dict(options["scale"]),
                    reload=not options["no_reload"],
                    quiet=options["quiet"],
                )
            )
        except UpError as error:
            sys.exit(str(error))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port; use a number from 0 to 65535")
    return int(text)


def _scale(text: str) -> tuple[str, int]:
    app, _, number = text.partition("=")
    if not app or not number.isdecimal() or not 1 <= int(number) <= 64:
        raise ArgumentTypeError(f"{text!r} is not APP=N with N from 1 to 64")
    return app, int(number)
