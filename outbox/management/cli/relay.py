"""The subcommand relay: the relay without a Celery worker."""

from __future__ import annotations

import os
import signal
import socket
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from celery import current_app
from django.core.management.base import CommandError
from kombu import Connection, Consumer
from kombu.exceptions import OperationalError

from outbox.relay.loop import RelayLoop
from outbox.relay.passes import BrokerUnavailable
from outbox.relay.passes import relay as relay_all
from outbox.tasks import build_relay
from outbox.transports.celery_broker import CeleryTransport, nudge_queue

from .common import Options, Write, count

_WAIT_SECONDS = 1.0


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
        with _until_signalled() as stopping:
            loop = build_relay()
            loop.start()
            write("The relay runs. Ctrl-C or SIGTERM stops it.")
            try:
                _forward_nudges(loop, stopping)
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


@contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    stopping = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, lambda *_: stopping.set()) for one in signals]
    try:
        yield stopping
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _forward_nudges(loop: RelayLoop, stopping: threading.Event) -> None:
    """Forward nudges to the loop. While the broker is down, the loop polls without them."""
    while not stopping.is_set():
        connection = current_app.connection_for_read()
        lost: tuple[type[BaseException], ...] = (OSError, OperationalError)
        lost += connection.connection_errors
        try:
            _consume_nudges(connection, loop, stopping)
        except lost:
            stopping.wait(_WAIT_SECONDS)
        finally:
            with suppress(*lost):
                connection.release()


def _consume_nudges(connection: Connection, loop: RelayLoop, stopping: threading.Event) -> None:
    connection.ensure_connection(max_retries=1, timeout=1)
    queues = [nudge_queue(f"relay@{socket.gethostname()}.{os.getpid()}")]
    with Consumer(connection, queues, on_message=lambda _: loop.nudge(), no_ack=True):
        while not stopping.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=_WAIT_SECONDS)
