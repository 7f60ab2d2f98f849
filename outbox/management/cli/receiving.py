"""Subcommands about received messages: receive stores them as events, correct repairs one."""

from __future__ import annotations

import sys
import threading
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox import operations
from outbox.sources import configuration, state
from outbox.sources.configuration import SourceConfig
from outbox.sources.receiver import Receiver

from .common import Options, Write, delivery_id, operator, until_signalled
from .running import reason_of

#: Seconds between two looks at the threads.
_LOOK_EVERY = 0.5


class Receive:
    """Store the messages of the sources as events, until SIGINT or SIGTERM."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the sources."""
        parser.add_argument(
            "source",
            nargs="*",
            help=_('names in OUTBOX["SOURCES"]; default: all that are received'),
        )

    def run(self, options: Options, write: Write) -> None:
        """Receive each source in one thread. Raise `CommandError` if a source is unusable."""
        sources = _chosen(options["source"])
        with until_signalled() as stopping:
            running = [_Running(source, stopping) for source in sources]
            names = ", ".join(source.name for source in sources)
            write(_("Receiving: %(names)s. Ctrl-C or SIGTERM stops it.") % {"names": names})
            sys.stdout.flush()  # Python buffers it if it is a pipe, as under systemd
            while not stopping.wait(_LOOK_EVERY) and all(one.is_alive() for one in running):
                pass
            stopping.set()
            for one in running:
                one.join()
        state.flush()
        for one in running:
            if one.error is not None:
                raise CommandError(str(one.error)) from one.error
        write(_("Receiving has stopped."))


class Correct:
    """Correct the body of a received message that could not be read, and store its event."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the delivery, the body and the reason."""
        parser.add_argument(
            "id", metavar="ID", help=_("its dead delivery of outbox.read_message; see `groups`")
        )
        parser.add_argument(
            "--body",
            required=True,
            metavar="FILE",
            help=_("the whole corrected body; -: read stdin"),
        )
        parser.add_argument("--reason", help=_("the reason, stored with the operation"))

    def run(self, options: Options, write: Write) -> None:
        """Store the corrected message. Raise `CommandError` if it still cannot be read."""
        number = delivery_id(options["id"])
        try:
            event = operations.correct_message(
                number, body=_body(options["body"]), by=operator(), reason=reason_of(options)
            )
        except operations.CannotCorrect as error:
            raise CommandError(str(error)) from error
        write(
            _(
                "The corrected message is stored as event %(id)s. "
                "outbox.read_message stores its event. See `manage.py outbox why "
                "%(id)s`."
            )
            % {"id": event.id}
        )


def _body(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(
            _("The file %(file)s cannot be read: %(strerror)s.")
            % {"file": file, "strerror": error.strerror}
        ) from error


class _Running(threading.Thread):
    """The thread of one source, and the error that ended it."""

    def __init__(self, source: SourceConfig, stopping: threading.Event) -> None:
        super().__init__(name=f"outbox-receive-{source.name}", daemon=True)
        self.error: Exception | None = None
        self._receiver = Receiver(source, stopping=stopping)
        self.start()

    def run(self) -> None:
        try:
            self._receiver.run()
        except Exception as error:
            self.error = error


def _chosen(names: Sequence[str]) -> list[SourceConfig]:
    try:
        known = configuration.configured()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    pulled = {name: source for name, source in known.items() if source.is_pulled}
    for name in names:
        if name not in known:
            configured = ", ".join(known) or _("none")
            raise CommandError(
                _('OUTBOX["SOURCES"] has no source %(name)s. It has: %(configured)s.')
                % {"name": name, "configured": configured}
            )
        if name not in pulled:
            raise CommandError(
                _(
                    "The source %(name)s receives HTTP requests through "
                    "outbox.sources.http.receive in your urls. It needs no process."
                )
                % {"name": name}
            )
    if not pulled:
        raise CommandError(
            _(
                'OUTBOX["SOURCES"] has no source to receive. See '
                "docs/how-to/receive-from-another-system.md."
            )
        )
    return [source for name, source in pulled.items() if not names or name in names]
