"""The loop of one source: receive, store, commit, acknowledge."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from outbox import databases
from outbox.conf import conf
from outbox.deliveries import failpoints, heartbeat
from outbox.deliveries.transient_errors import DatabaseAccess, WaitGivenUp, is_transient
from outbox.settlements.recording import ReportsNotRecorded

from . import state
from .backlog import WORK_PER_LOOK, Brake
from .base import ReceivedMessage, Source, SourceUnavailable
from .configuration import SourceConfig
from .storing import store

logger = logging.getLogger("outbox.sources")

#: Seconds that one call waits for messages.
_WAIT = 1.0
#: Seconds before the source is opened again after a failure: first and longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Receiver:
    """Receives messages of one source until stopped. It runs in one thread.

    If the database cannot be reached, the source is closed, so that other processes get its
    messages. A batch that cannot be stored for another reason stays in hand, and is stored later:
    systems count how often a message returns, and delete it (RabbitMQ) or move it (SQS) in the end.

    Args:
        source: the source.
        stopping: ends the loop after the batch in hand, or after the latest attempt to store it.
    """

    def __init__(self, source: SourceConfig, *, stopping: threading.Event) -> None:
        self._config = source
        self._stopping = stopping
        self._name = f"{source.name}@{heartbeat.own_name()}"
        self._using = databases.alias()
        self._brake = Brake(source, using=self._using)
        self._source: Source | None = None
        self._in_hand: Sequence[ReceivedMessage] = ()
        self._lag_at = self._cleared_at = 0.0
        #: The lag is not asked for before, even if the source is opened again.
        self._lag_rests_until = 0.0
        #: Whether the system has answered since the source was opened.
        self._answers = False
        #: Whether this process, or one that ran before it, may have noted a failure.
        self._may_be_failing = True

    def run(self) -> None:
        """Receive until stopped.

        Raises:
            ImproperlyConfigured: the client library is missing, or an option is invalid.
        """
        # A thread does not have the context of the code that started it.
        with databases.serving(self._using):
            self._run()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        notice = self._notice()
        try:
            if notice is not None:
                notice.start()
            while not self._stopping.is_set():
                try:
                    self._step()
                    pause = _FIRST_PAUSE
                except (ImproperlyConfigured, WaitGivenUp):
                    raise
                except Exception as error:
                    self._fail(error)
                    self._stopping.wait(pause * random.uniform(0.5, 1))
                    pause = min(pause * 2, _LONGEST_PAUSE)
        except WaitGivenUp as error:
            logger.info("%s", error)
        finally:
            if notice is not None:
                notice.stop()
            self._give_up_source()
            connections.close_all()

    def _notice(self) -> heartbeat.HeartbeatThread | None:
        """Return the thread that records in the first database that this one receives the source.

        Otherwise the monitor would expect a process that receives it there. It is a thread, so that
        a first database that does not answer delays no message of this one.
        """
        first = databases.aliases()[0]
        if self._using == first:
            return None
        queues = [state.received_in(self._config.name, self._using)]
        return heartbeat.HeartbeatThread(
            self._name, lambda: queues, kind=heartbeat.Kind.RECEIVER, using=first
        )

    def _step(self) -> None:
        """Receive and store one batch, or wait."""
        source = self._opened()
        access = DatabaseAccess(self._using, sleep=self._wait_for_database)
        self._beat()
        is_paused = access.run(self._brake.is_needed, through_outages=False)
        self._note_lag(source)
        if is_paused:
            source.keep_alive()
            self._stopping.wait(_WAIT)
            self._note_success(has_stored=False)
            return
        self._in_hand = source.receive(source.max_batch, timeout=_WAIT)
        if not self._in_hand:
            self._note_success(has_stored=False)
        elif self._store(source, access):
            failpoints.reach(failpoints.AFTER_STORE)
            stored, self._in_hand = self._in_hand, ()
            source.acknowledge(stored)
            self._note_success(has_stored=True)

    def _store(self, source: Source, access: DatabaseAccess) -> bool:
        """Store the batch in hand; return false if the receiver was stopped before it could.

        Raises:
            django.db.Error: the database could not be reached.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                store(
                    self._config,
                    self._in_hand,
                    retry=lambda action: access.run(action, through_outages=False),
                    using=self._using,
                )
                return True
            except Exception as error:
                # Without a source there was an outage, and others have the messages.
                if self._source is None:
                    raise
                self._note_failure(error, held=len(self._in_hand))
            if not self._hold(source, pause * random.uniform(0.5, 1)):
                return False
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _hold(self, source: Source, seconds: float) -> bool:
        """Keep the batch in hand for so many seconds; return false if the receiver is stopped."""
        while seconds > 0:
            if self._stopping.wait(min(seconds, _WAIT)):
                return False
            self._beat()
            source.hold(self._in_hand)
            with suppress(Exception):  # the database may be the cause of the failure
                self._note_lag(source)
            seconds -= _WAIT
        return True

    def _beat(self) -> None:
        heartbeat.beat(heartbeat.Kind.RECEIVER, self._name, queues=[self._config.name])

    def _opened(self) -> Source:
        if self._source is None:
            made = self._config.create()
            assert isinstance(made, Source)
            self._source, self._lag_at, self._answers = made, 0.0, False
        return self._source

    def _note_lag(self, source: Source) -> None:
        """Store the lag as often as a heartbeat, less often if asking takes long.

        The thread receives nothing meanwhile, and the system may close the connection of the
        source. An unknown lag is no failure.
        """
        now = time.monotonic()
        if now - self._lag_at < conf().HEARTBEAT_SECONDS or now < self._lag_rests_until:
            return
        self._lag_at = now
        try:
            lag = source.lag()
            self._answers = True
        except Exception as error:
            logger.debug("%s: the lag is unknown: %s", self._config.name, type(error).__name__)
            lag, self._answers = None, False
        ended = time.monotonic()
        self._lag_rests_until = ended + WORK_PER_LOOK * (ended - now)
        state.note_lag(self._config.name, lag, using=self._using)

    def _note_success(self, *, has_stored: bool) -> None:
        """Clear the failure of the source, as often as a heartbeat.

        A batch that was stored clears any failure. An empty one, of a system that answers, clears
        only one of this process or of those before it: other processes may hold the messages.
        """
        now = time.monotonic()
        is_due = self._may_be_failing or now - self._cleared_at >= conf().HEARTBEAT_SECONDS
        if is_due and (has_stored or (self._answers and self._may_be_failing)):
            state.note_failure(self._config.name, "", using=self._using)
            self._may_be_failing, self._cleared_at = False, now

    def _fail(self, error: Exception) -> None:
        """Close the source after an error, and note that."""
        self._give_up_source()
        if is_transient(error, using=self._using):
            text = "%s: the database failed. Receiving starts again: %s"
            logger.warning(text, self._config.name, error)
        else:
            self._note_failure(error)

    def _note_failure(self, error: Exception, *, held: int = 0) -> None:
        """Log and store a failure; `held` is the number of messages that it keeps meanwhile."""
        name, self._may_be_failing = self._config.name, True
        what = f"cannot store {held} messages, keeps them" if held else "cannot receive"
        if isinstance(error, SourceUnavailable | ReportsNotRecorded):
            text = str(error)
            logger.warning("%s %s, and tries again: %s", name, what, text)
        else:
            text = f"{type(error).__name__}. See the log of the receiver."
            logger.exception("%s %s, and tries again.", name, what)
        if held:
            text = f"{held} messages cannot be stored, and are kept. {text}"
        with suppress(Exception):  # the database may be the cause
            state.note_failure(name, text, using=self._using)

    def _wait_for_database(self, seconds: float) -> bool:
        """Wait during an outage. Other processes get the messages meanwhile."""
        self._give_up_source()
        return self._stopping.wait(seconds)

    def _give_up_source(self) -> None:
        """Release the messages in hand, and close the source."""
        source, in_hand = self._source, self._in_hand
        self._source, self._in_hand = None, ()
        if source is None:
            return
        try:
            if in_hand:
                source.release(in_hand)
        except Exception as error:  # they return anyway, only later
            logger.info("%s: messages were not released: %s", source.name, type(error).__name__)
        try:
            source.close()
        except Exception as error:
            logger.info("%s: the client was not closed: %s", source.name, type(error).__name__)
