"""The subcommand relay: the relay without a Celery worker."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import CommandError

from outbox.relay.passes import BrokerUnavailable
from outbox.relay.passes import relay as relay_all
from outbox.tasks import build_relay
from outbox.transports.celery_broker import CeleryTransport, forward_nudges

from .common import Options, Write, count, until_signalled


class Relay:
    """Run the relay in the foreground, for setups without a Celery worker of the queue outbox."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --once."""
        parser.add_argument("--once", action="store_true", help="relay all due deliveries, and end")

    def run(self, options: Options, write: Write) -> None:
        """Relay once, or until SIGINT or SIGTERM."""
        if options["once"]:
            _once(write)
            return
        with until_signalled() as stopping:
            loop = build_relay()
            loop.start()
            write("The relay runs. Ctrl-C or SIGTERM stops it.")
            try:
                forward_nudges(loop, stopping)
            finally:
                loop.stop()
        write("The relay has stopped.")


def _once(write: Write) -> None:
    try:
        number = relay_all(publish=CeleryTransport().dispatch)
    except BrokerUnavailable as error:
        raise CommandError(
            f"The broker accepted no message: {error}. Nothing is lost. Check that it runs: "
            "`manage.py outbox doctor`."
        ) from error
    write(f"{count(number, 'message')} sent.")
