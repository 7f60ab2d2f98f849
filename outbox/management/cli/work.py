"""The subcommand work: relay and deliver without a broker."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from outbox.formatting import did_you_mean, listing
from outbox.local.process import INTERRUPTED, WorkProcess
from outbox.local.supervisor import CannotWork, Supervisor
from outbox.subscriptions import queues as queues_of_code
from outbox.transports import names
from outbox.transports.base import QUEUE

from .common import Options, Write, count

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Work:
    """Relay and deliver events in this process, without a broker, until SIGINT or SIGTERM."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the number of processes and threads, the queues, the stop time and the log."""
        parser.add_argument(
            "--processes", type=_number, default=1, metavar="N", help=_("number of processes (1)")
        )
        parser.add_argument(
            "--threads",
            type=_number,
            default=1,
            metavar="N",
            help=_("most messages that a process runs at the same time (1)"),
        )
        parser.add_argument(
            "--queue",
            action="append",
            default=[],
            metavar="NAME",
            help=_("serve only this queue; can be repeated; default: those of all handlers"),
        )
        parser.add_argument(
            "--stop-seconds",
            type=_seconds,
            default=30.0,
            metavar="SECONDS",
            help=_("time for running deliveries after SIGTERM (30)"),
        )
        parser.add_argument(
            "--loglevel",
            type=str.upper,
            choices=_LEVELS,
            help=_("log from this level on; default: as LOGGING says"),
        )

    def run(self, options: Options, write: Write) -> None:
        """Work until stopped.

        Raises:
            CommandError: the settings or a queue are wrong, no process can begin, or a process was
                stopped before its running deliveries were done.
        """
        _check(options["queue"])
        if options["loglevel"]:
            _log_from(options["loglevel"])
        given = {name: options[name] for name in ("threads", "stop_seconds")}
        given["queues"] = options["queue"]
        served = listing(sorted(options["queue"])) or _("all queues")
        processes, threads = options["processes"], options["threads"]
        write(
            _("Working: %(served)s, %(counted)s with %(counted2)s. Ctrl-C or SIGTERM stops it.")
            % {
                "served": served,
                "counted": count(processes, "process", "processes"),
                "counted2": count(threads, "thread"),
            }
        )
        if sys.stdout is not None:  # it is closed
            sys.stdout.flush()  # Python buffers it if it is a pipe, as under systemd
        if processes == 1:
            WorkProcess(**given).run()
        else:
            work = partial(_work, parent=os.getpid(), **given)
            _supervise(Supervisor(processes, work, stop_seconds=options["stop_seconds"]))
        write(_("Working has stopped."))


def _log_from(level: str) -> None:
    """Log from a level on, to stderr if the project's settings configure no root logger."""
    logging.basicConfig(format=_LOG_FORMAT)
    logging.getLogger().setLevel(level)


def _supervise(supervisor: Supervisor) -> None:
    try:
        is_clean = supervisor.run()
    except CannotWork as error:
        raise CommandError(str(error)) from error
    if not is_clean:
        raise CommandError(
            _(
                "Working has stopped before all running deliveries were done. A "
                "relay records worker deaths when their leases expire. Give them "
                "more time by --stop-seconds."
            ),
            returncode=INTERRUPTED,
        )


def _work(**given: object) -> None:
    WorkProcess(**given).run()  # type: ignore[arg-type]  # parsed options


def _check(queues: list[str]) -> None:
    if not names.uses(names.LOCAL):
        in_use = listing(names.in_use())
        raise CommandError(
            _(
                "This project uses the transport %(in_use)s, so commits do not "
                'nudge processes of outbox work. Set OUTBOX["TRANSPORTS"] = '
                '["local"], or ["celery", "local"] to run them beside Celery\'s '
                "workers."
            )
            % {"in_use": in_use}
        )
    known = {QUEUE}.union(*queues_of_code().values())
    for name in queues:
        if name not in known:
            hint = did_you_mean(name, sorted(known)) or _("The queues are %(names)s.") % {
                "names": listing(sorted(known))
            }
            raise CommandError(
                _("No handler has the queue %(name)s. %(hint)s") % {"name": name, "hint": hint}
            )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1000:
        raise ArgumentTypeError(
            _("invalid number %(text)s; give one from 1 to 1000") % {"text": repr(text)}
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise ArgumentTypeError(
            _("invalid number of seconds %(text)s; give one from 0") % {"text": repr(text)}
        )
    return seconds
