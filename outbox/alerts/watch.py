"""The thread of a process that checks for problems, sends alerts, and sends the dead man's ping.

Each process that relays or delivers has one. The database decides which of them acts. The thread
itself uses its own database only. Messages and pings are sent by threads of their own. So a mail
server that hangs delays only its own channel, and neither relay nor worker. A database that does
not answer delays only its own watch, and the ping. The exception, in a Celery worker on SQLite: a
function or an e-mail backend that uses a database and then hangs stops relay and worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from outbox import databases
from outbox.deliveries.connections import drop_all
from outbox.deliveries.transient_errors import drop_broken_connection, is_transient
from outbox.formatting import one_line

from . import claims, dead_man, problems, recording
from .claims import Around
from .configuration import AlertsConfig, ChannelConfig, DeadManConfig, configured
from .sending import Sender

logger = logging.getLogger("outbox.alerts")

#: Seconds between two looks at the database.
LOOK_SECONDS = 5.0
#: Seconds between two checks, over all processes.
CHECK_SECONDS = 10.0
#: The claim of a check. If its process dies, another one checks after so many seconds.
_CHECK, _LONGEST_CHECK_SECONDS = "check", 120.0
#: Seconds after which a ping that failed, or that relay or beat prevented, is tried again.
_PING_AGAIN_SECONDS = 10.0


class Watch:
    """Checks and sends until stopped. Errors are logged and end nothing.

    Args:
        config: the settings.
        using: the outbox's database alias.
        around: the context of each use of the database: a process that forks must not do so then.
    """

    def __init__(
        self, config: AlertsConfig, *, using: str | None = None, around: Around = nullcontext
    ) -> None:
        self._config = config
        self._using = using or databases.alias()
        self._around = around
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox-alerts", daemon=True)
        #: By name, the thread that sends to a channel, or the ping.
        self._running: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Start the thread. A stopped watch cannot start again."""
        self._thread.start()

    def stop(self) -> None:
        """Stop without waiting. A message that is being sent may be sent again by another one."""
        self._stopping.set()

    def look(self) -> None:
        """Run the next check if it is due, and start a thread for each due channel and ping."""
        self._unless_failed("check", self._check)
        for channel in self._config.channels.values():
            self._unless_failed(_name(channel), partial(self._send, channel))
        # One watch of a process sends the ping, and only if all databases are well.
        is_first = self._using == databases.aliases()[0]
        if self._config.dead_man is not None and is_first and not self._is_running(dead_man.CLAIM):
            self._unless_failed(dead_man.CLAIM, self._ping)

    def wait(self) -> None:
        """Wait for the thread that was started, until `stop`, and for those that send."""
        if self._thread.ident is not None:
            self._thread.join()
        for thread in list(self._running.values()):
            thread.join()

    def _run(self) -> None:
        try:
            with databases.serving(self._using):
                while not self._stopping.wait(LOOK_SECONDS):
                    self.look()
        finally:
            connections.close_all()

    def _unless_failed(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            text = "The step %s of the alerts failed. It is repeated."
            if is_transient(error, using=self._using):  # each look fails during an outage
                logger.warning(f"{text} %s", name, error)
            else:
                logger.exception(text, name)
            drop_all()

    def _check(self) -> None:
        if not self._config.channels:
            return
        with self._around():
            drop_broken_connection(using=self._using)
            if token := claims.take(_CHECK, seconds=_LONGEST_CHECK_SECONDS, using=self._using):
                try:
                    found = problems.find(self._config.limits, using=self._using)
                    recording.record(found, self._config, using=self._using)
                finally:  # the claim outlasts a slow check, but not by two minutes
                    claims.keep(_CHECK, token, seconds=CHECK_SECONDS, using=self._using)

    def _send(self, channel: ChannelConfig) -> None:
        name = _name(channel)
        sender = Sender(channel, self._config, using=self._using, around=self._around)
        if not self._is_running(name) and sender.has_due():
            self._start(name, sender.send_due)

    def _ping(self) -> None:
        """Start the thread of the ping, if it is due. It waits for the other databases itself."""
        config = self._config.dead_man
        assert config is not None
        with self._around():
            drop_broken_connection(using=self._using)
            token = claims.take(
                dead_man.CLAIM,
                seconds=dead_man.longest_seconds(config),  # not longer: this process may die
                longest=config.seconds,
                using=self._using,
            )
        if token:
            self._start(dead_man.CLAIM, partial(self._ping_now, config, token))

    def _ping_now(self, config: DeadManConfig, token: str) -> None:
        """Send the ping if relay and beat run in all databases. Otherwise the service gets none."""
        began, seconds = time.monotonic(), _PING_AGAIN_SECONDS
        if silent := self._silent_parts():
            logger.warning("The dead man's ping is not sent: silent: %s.", ", ".join(silent))
        elif dead_man.ping(config):
            seconds = config.seconds
        left = min(seconds, config.seconds) - (time.monotonic() - began)
        with self._around():
            claims.keep(dead_man.CLAIM, token, seconds=max(0.0, left), using=self._using)

    def _silent_parts(self) -> list[str]:
        """Return the silent parts of all databases. One that cannot be read is such a part."""
        silent: list[str] = []
        for one in databases.aliases():
            try:
                with self._around():
                    silent += dead_man.silent_parts(using=one)
            except Error as error:
                silent.append(f"database {one} ({one_line(str(error))})")
                drop_broken_connection(using=one)
        return silent

    # --- threads ----------------------------------------------------------------------------------

    def _is_running(self, name: str) -> bool:
        thread = self._running.get(name)
        return thread is not None and thread.is_alive()

    def _start(self, name: str, action: Callable[[], object]) -> None:
        thread = threading.Thread(
            target=self._act, args=(name, action), name=f"outbox-alerts {name}", daemon=True
        )
        self._running[name] = thread
        thread.start()

    def _act(self, name: str, action: Callable[[], object]) -> None:
        try:
            with databases.serving(self._using):
                self._unless_failed(name, action)
        finally:
            connections.close_all()


def _name(channel: ChannelConfig) -> str:
    return f"channel {channel.name}"


def end_unwatched(*, using: str | None = None) -> None:
    """End the alerts that no check watches: no channel is configured any more."""
    try:
        config = configured()
    except ImproperlyConfigured:  # they may have channels, and `watch` has logged it
        return
    recording.end_unwatched(config, using=using or databases.alias())


def watch(*, around: Around = nullcontext) -> databases.OnEach[Watch] | None:
    """Return the threads of a process, one for each database.

    None if alerts are off or their settings are invalid.
    """
    try:
        config = configured()
    except ImproperlyConfigured as error:
        logger.error("No alert is sent. %s", error)
        return None
    if not config.is_on:
        return None
    each = databases.aliases()
    return databases.OnEach({using: Watch(config, using=using, around=around) for using in each})
