"""The subcommand relay: the relay without a Celery worker."""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import databases
from outbox.relay.passes import relay as relay_all
from outbox.relay.publishing import BrokerUnavailable
from outbox.transports.celery_app import require_celery

from .common import Options, Write, count, until_signalled


class Relay:
    """Run the relay in the foreground, for setups without a Celery worker of the queue outbox."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare --once."""
        parser.add_argument(
            "--once", action="store_true", help=_("relay all due deliveries, and end")
        )

    def run(self, options: Options, write: Write) -> None:
        """Relay once, or until SIGINT or SIGTERM."""
        _require_celery()
        if options["once"]:
            _once(write)
            return
        from outbox.tasks import build_alerts, build_relay
        from outbox.transports.celery_broker import forward_nudges

        with until_signalled() as stopping:
            loop = build_relay()
            loop.start()
            alerts = build_alerts()
            if alerts is not None:
                alerts.start()
            write(_("The relay runs. Ctrl-C or SIGTERM stops it."))
            try:
                forward_nudges(loop, stopping)
            finally:
                if alerts is not None:
                    alerts.stop()
                loop.stop()
        write(_("The relay has stopped."))


def _require_celery() -> None:
    try:
        require_celery(_("The subcommand relay"))
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error


def _once(write: Write) -> None:
    from outbox import tasks  # noqa: F401  it registers the task of a message
    from outbox.transports.celery_broker import CeleryTransport

    numbers: list[int] = []
    publish = CeleryTransport().dispatch
    try:
        databases.on_each(lambda: numbers.append(relay_all(publish=publish)))
    except BrokerUnavailable as error:
        raise CommandError(
            _(
                "The broker accepted no message: %(error)s. Nothing is lost. Check "
                "that it runs: `manage.py outbox doctor`."
            )
            % {"error": error}
        ) from error
    write(_("%(counted)s sent.") % {"counted": count(sum(numbers), "message")})
